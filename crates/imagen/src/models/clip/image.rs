//! CLIP's image tower: patches are tokens, and a token of its own sums the picture up (Dosovitskiy et al. 2020).

use burn::tensor::{Device, Tensor, TensorData};

use super::ClipImageConfig;
use super::tower::{self, Block, Loader, Norm, Widths};
use crate::error::{Error, Result};
use crate::models::weights::{Storage, Weights};
use crate::nn::{StoredLinear, StoredWeights};

/// The frozen image tower on a device.
#[derive(Debug)]
pub struct ClipImage {
    config: ClipImageConfig,
    device: Device,
    /// From a patch's `[3, p, p]` numbers to d.
    patches: StoredLinear,
    /// `[1, 1, d]`
    class: Tensor<3>,
    /// `[1, 1 + patches, d]`
    positions: Tensor<3>,
    before: Norm,
    blocks: Vec<Block>,
    after: Norm,
    projection: StoredLinear,
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
        let projection_shape = [config.projection_dim, d];
        let mut expected = vec![
            (name(CLASS), vec![d]),
            (name(PATCHES), vec![d, 3, p, p]),
            (name(POSITIONS), vec![tokens, d]),
            (projection.clone(), projection_shape.to_vec()),
        ];
        expected.extend([BEFORE, AFTER].iter().flat_map(|norm| tower::norm(&name(norm), d)));
        expected.extend(tower::expected(prefix, layers, widths));
        weights.require(&expected)?;
        let loader = Loader { weights, storage, device: &device };
        let patches = weights.tensor_f32(&name(PATCHES), &[d, 3, p, p])?;
        let patches = StoredLinear::from_rows(3 * p * p, d, StoredWeights::F32(&patches));
        let class = loader.vector(&name(CLASS), d)?.reshape([1, 1, d]);
        let positions = weights.tensor_f32(&name(POSITIONS), &[tokens, d])?;
        let positions = Tensor::from_data(TensorData::new(positions, [1, tokens, d]), &device);
        let (before, after) = (loader.norm(&name(BEFORE), d)?, loader.norm(&name(AFTER), d)?);
        let blocks = loader.blocks(prefix, layers, widths)?;
        let projection = weights.linear(&projection, projection_shape, storage)?;
        Ok(Self { patches, class, positions, before, blocks, after, projection, device, config })
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
        let tokens = self.patches.forward(rows, None, None);
        let x = Tensor::cat(vec![self.class.clone().expand([b, 1, d]), tokens], 1) + self.positions.clone();
        let mut x = self.before.forward(x);
        for block in &self.blocks {
            x = block.forward(x, None, None);
        }
        let class: Tensor<2> = x.narrow(1, 0, 1).reshape([b, d]);
        Ok(self.projection.forward(self.after.forward(class), None, None))
    }
}

const CLASS: &str = "embeddings.class_embedding";
const PATCHES: &str = "embeddings.patch_embedding.weight";
const POSITIONS: &str = "embeddings.position_embedding.weight";
// transformers' spelling
const BEFORE: &str = "pre_layrnorm";
const AFTER: &str = "post_layernorm";
const PROJECTION: &str = "visual_projection.weight";
