//! CLIP's image tower: patches are tokens, and a token of its own sums the picture up (Dosovitskiy et al. 2020).

use burn::tensor::{Device, Tensor};

use super::ClipImageConfig;
use super::tower::{self, Block, Widths};
use crate::error::{Error, Result};
use crate::models::frozen::{self, LayerNorm, Linear};
use crate::models::weights::{Storage, Weights};

/// The frozen image tower on a device.
#[derive(Debug)]
pub struct ClipImage {
    config: ClipImageConfig,
    device: Device,
    /// From a patch's `[3, p, p]` numbers to d.
    patches: Linear,
    /// `[d]`
    class: Tensor<1>,
    /// `[1 + patches, d]`
    positions: Tensor<2>,
    before: LayerNorm,
    blocks: Vec<Block>,
    after: LayerNorm,
    projection: Linear,
}

impl ClipImage {
    /// The image tower with the weights of a file in transformers' layout, with the prefix `vision_model.` once, twice (where
    /// the tower is a part of another network, the projection with it) or not at all.
    ///
    /// The network lives on `device` without its autodiff association.
    ///
    /// # Errors
    /// `Model` when the configuration is not one this network has, or tensors are missing or mis-shaped (all listed).
    pub fn new(config: ClipImageConfig, weights: &Weights, storage: Storage, device: &Device) -> Result<Self> {
        config.check()?;
        let device = device.clone().without_autodiff();
        let prefixes = [("vision_model.", ""), ("", ""), ("vision_model.vision_model.", "vision_model.")];
        let found = prefixes.into_iter().find(|(prefix, _)| weights.shape(&format!("{prefix}{CLASS}")).is_some());
        let (prefix, outer) = found.unwrap_or(prefixes[0]);
        let projection = format!("{outer}{PROJECTION}");
        let (d, layers, p) = (config.hidden_size, config.num_hidden_layers, config.patch_size);
        let tokens = config.grid() * config.grid() + 1;
        let widths = Widths {
            d,
            inner: config.intermediate_size,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
        };
        let name = |part: &str| format!("{prefix}{part}");
        frozen::read(weights, storage, &device, |loader| {
            Ok(Self {
                patches: loader.patches(name(PATCHES), [d, 3, p, p])?,
                class: loader.vector(name(CLASS), d)?,
                positions: loader.tensor(name(POSITIONS), [tokens, d])?,
                before: loader.layer_norm(&name(BEFORE), d)?,
                blocks: tower::blocks(loader, prefix, layers, widths)?,
                after: loader.layer_norm(&name(AFTER), d)?,
                projection: loader.matrix(&projection, d, config.projection_dim)?,
                device: device.clone(),
                config: config.clone(),
            })
        })
    }

    /// The sizes.
    pub fn config(&self) -> &ClipImageConfig {
        &self.config
    }

    /// The device that the network lives on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The embeddings `[b, p]` of normalised pictures `[b, side, side, 3]`.
    ///
    /// # Errors
    /// `Usage` when the pictures have another size.
    pub fn embed(&self, pixels: Tensor<4>) -> Result<Tensor<2>> {
        let (side, p, grid) = (self.config.image_size, self.config.patch_size, self.config.grid());
        let dims @ [b, ..] = pixels.dims();
        if dims != [b, side, side, 3] {
            return Err(Error::usage(format!("pictures are {dims:?}; this CLIP takes [b, {side}, {side}, 3]")));
        }
        // [b, grid, p, grid, p, 3] -> [b, grid, grid, 3, p, p]: a patch is a row, its channels outermost
        let rows = pixels.reshape([b, grid, p, grid, p, 3]).permute([0, 1, 3, 5, 2, 4]);
        let rows: Tensor<3> = rows.reshape([b, grid * grid, 3 * p * p]);
        let d = self.config.hidden_size;
        let tokens = self.patches.forward(rows);
        let class: Tensor<3> = self.class.clone().reshape([1, 1, d]).expand([b, 1, d]);
        let x = Tensor::cat(vec![class, tokens], 1) + self.positions.clone().unsqueeze();
        let mut x = self.before.forward(x);
        for block in &self.blocks {
            x = block.forward(x, None, None);
        }
        let class: Tensor<2> = x.narrow(1, 0, 1).reshape([b, d]);
        Ok(self.projection.forward(self.after.forward(class)))
    }
}

const CLASS: &str = "embeddings.class_embedding";
const PATCHES: &str = "embeddings.patch_embedding.weight";
const POSITIONS: &str = "embeddings.position_embedding.weight";
// transformers' spelling
const BEFORE: &str = "pre_layrnorm";
const AFTER: &str = "post_layernorm";
const PROJECTION: &str = "visual_projection";
