//! What the names and shapes of a network's tensors say of it.

use crate::error::{Error, Result};
use crate::models::frozen::Loader;
use crate::models::unet::{Heads, Layout, Level, SkipJoin, SkipScale, TextAttention, TextPooling, UnetConfig};
use crate::models::weights::{Storage, Weights};

/// A tensor of networks whose first level halves its maps already (`memory_efficient`), as Efficient U-Nets do.
pub(super) const HALVES_FIRST: &str = "init_resnet_block.block1.project.weight";

/// Parts of names that tell of networks that are not these.
const OTHERS: [(&str, &str); 6] = [
    ("dummy_parameter", "it is a placeholder that draws nothing (NullUnet)"),
    ("temporal", "it draws videos (Unet3D)"),
    (
        ".groupnorm.",
        "its blocks have GroupNorm, as releases before 2.0 had; load it with a newer release and save it again",
    ),
    (".to_q.1.weight", "it has linear attention (use_linear_attn)"),
    ("downs.0.0.convs.", "its maps are halved by windows of several sizes (cross_embed_downsample)"),
    ("downs.0.4.convs.", "its maps are halved by windows of several sizes (cross_embed_downsample)"),
];

/// The description of the network whose tensors' names begin with `prefix`. Whether long skips are scaled is not to be seen
/// from them and comes as `scaled_skips`.
///
/// # Errors
/// `Model` where it is a network of another kind, or tensors are missing that every network has.
pub fn describe(weights: &Weights, prefix: &str, scaled_skips: bool) -> Result<UnetConfig> {
    let own = || weights.names().filter_map(|name| name.strip_prefix(prefix));
    if let Some((_, why)) = OTHERS.iter().find(|(part, _)| own().any(|name| name.contains(part))) {
        return Err(Error::model(format!("{}: {prefix} cannot be drawn from: {why}", weights.label())));
    }
    let device = burn::tensor::Device::flex();
    let loader = Loader::under(prefix, weights, Storage::Stored, &device);
    let shape = |name: &str, axis: usize| {
        let size = loader.shape(name).and_then(|shape| shape.get(axis).copied()).filter(|size| *size > 0);
        size.ok_or_else(|| {
            let label = weights.label();
            Error::model(format!("{label}: `{prefix}{name}` is missing: this is no U-Net of imagen-pytorch 2"))
        })
    };
    let has = |name: &str| loader.shape(name).is_some();
    let count = |name: &dyn Fn(usize) -> String| (0..).take_while(|i| has(&name(*i))).count();
    let low_resolution = has("to_lowres_time_hiddens.1.weight");
    let embedding = shape("to_time_hiddens.1.weight", 0)?;
    let image_channels = shape("final_conv.weight", 0)?;
    let first = first_windows(&loader);
    let Some(window) = first.first() else {
        return Err(Error::model(format!("{}: `{prefix}init_conv.weight` is missing", weights.label())));
    };
    let input = shape(&format!("{}.weight", window.0), 1)?;
    let pictures = image_channels * if low_resolution { 2 } else { 1 };
    if input != pictures {
        return Err(Error::model(format!(
            "{}: {prefix} cannot be drawn from: it takes {input} channels where its pictures have {pictures}: it is \
             conditioned on another picture (cond_images_channels) or on its last estimate (self_cond)",
            weights.label()
        )));
    }
    let depth = count(&|i| format!("downs.{i}.1.block1.project.weight"));
    let mut levels = Vec::new();
    for i in 0..depth {
        levels.push(Level {
            blocks: count(&|j| format!("downs.{i}.2.{j}.block1.project.weight")),
            self_attention: has(&format!("downs.{i}.3.layers.0.0.to_q.weight")),
            text_attention: has(&format!("downs.{i}.1.cross_attn.to_q.weight")),
            ..Level::plain(shape(&format!("ups.{}.0.block1.project.weight", depth - 1 - i), 0)?)
        });
    }
    let text_dim = if has("text_to_cond.weight") { shape("text_to_cond.weight", 1)? } else { 0 };
    let head_width = shape("mid_block1.cross_attn.q_scale", 0)?;
    Ok(UnetConfig {
        layout: if has(HALVES_FIRST) { Layout::Efficient } else { Layout::Adm },
        image_channels,
        low_resolution,
        channels: embedding / 4 / if low_resolution { 2 } else { 1 },
        embedding,
        text_dim,
        text_width: shape("norm_cond.weight", 0)?,
        levels,
        heads: Heads::Count(shape("mid_block1.cross_attn.to_q.weight", 0)? / head_width),
        attention_expansion: 1,
        text_attention: if text_dim > 0 { TextAttention::Separate } else { TextAttention::None },
        text_pooling: if text_dim > 0 { TextPooling::Mean } else { TextPooling::None },
        skip_scale: if scaled_skips { SkipScale::Long } else { SkipScale::None },
        skip_join: SkipJoin::Concatenate,
        output_blocks: 0,
        groups: 1,
        null_text: if text_dim > 0 { shape("null_text_embed", 1)? } else { 0 },
        things: 0,
        planner: None,
    })
}

/// Name, channels and side of the windows of the first convolution.
pub(super) fn first_windows(loader: &Loader<'_>) -> Vec<(String, usize, usize)> {
    let names = (0..).map(|i| format!("init_conv.convs.{i}"));
    let window = |name: String| match loader.shape(&format!("{name}.weight")) {
        Some(&[width, _, side, _]) => Some((name, width, side)),
        _ => None,
    };
    let several: Vec<_> = names.map_while(window).collect();
    if several.is_empty() { window("init_conv".into()).into_iter().collect() } else { several }
}

/// Input channels, output channels and side of the window of the last convolution.
pub(super) fn last_convolution(loader: &Loader<'_>) -> Result<[usize; 3]> {
    match loader.shape("final_conv.weight") {
        Some(&[to, from, side, _]) => Ok([from, to, side]),
        _ => Err(Error::model("`final_conv.weight` is missing or no convolution")),
    }
}
