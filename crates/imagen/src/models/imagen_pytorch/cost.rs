//! What a network of imagen-pytorch costs, from the shapes of its tensors: parameters, and multiply-adds of convolutions and
//! matrices over pixels. Attention's products and what works on conditions alone are left out.

use super::describe::HALVES_FIRST;
use crate::models::unet::{Level, LevelCost, UnetConfig};
use crate::models::weights::Weights;

/// One row for each level and one for the rest, as [`crate::models::unet::cost`] has them, of a network with pictures of this
/// side. What training would keep is 0: these networks are not trained here.
pub fn cost(config: &UnetConfig, weights: &Weights, side: usize) -> Vec<LevelCost> {
    let levels = config.levels.len();
    let row = |name: String, side: usize, channels: usize| {
        let largest_map_bytes = (4 * side * side * channels) as u64;
        // ordinary tensor operations: beside the skips that wait, norm, scale and activation each write a map
        let drawing_bytes = (6 + levels as u64) * largest_map_bytes;
        LevelCost { name, side, largest_map_bytes, drawing_bytes, ..LevelCost::default() }
    };
    let side_of = |level: usize| side >> (level + usize::from(weights.shape(HALVES_FIRST).is_some()));
    // a level's widest map is joined to a skip as wide
    let level = |(i, level): (usize, &Level)| row(format!("level {i}"), side_of(i), 2 * level.channels);
    let mut rows: Vec<LevelCost> = config.levels.iter().enumerate().map(level).collect();
    rows.push(row("pictures".into(), side, 2 * config.channels));
    rows.push(row("conditions".into(), 0, 0));
    for name in weights.names() {
        let shape = weights.shape(name).unwrap_or(&[]);
        let numbers: u64 = shape.iter().product::<usize>() as u64;
        let number = |rest: &str| rest.split('.').next().and_then(|number| number.parse::<usize>().ok());
        let level = match name.split_once('.') {
            Some(("downs", rest)) => number(rest),
            Some(("ups", rest)) => number(rest).map(|j| levels - 1 - j.min(levels - 1)),
            Some(("mid_block1" | "mid_block2" | "mid_attn", _)) => Some(levels - 1),
            _ => None,
        };
        let at_pictures =
            ["init_conv", "init_resnet_block", "upsample_combiner", "final_"].iter().any(|part| name.starts_with(part));
        let row = &mut rows[level.unwrap_or(if at_pictures { levels } else { levels + 1 }).min(levels + 1)];
        row.parameters += numbers;
        let over_pixels = shape.len() >= 2
            && name.ends_with(".weight")
            && !["time_mlp", "to_context", "cross_attn.to_kv", ".gca.net"].iter().any(|part| name.contains(part));
        if over_pixels {
            let pixels = (row.side * row.side) as u64;
            // what leaves a level with half or twice its side works there
            let pixels = match name.split('.').collect::<Vec<_>>()[..] {
                ["downs", _, "4", "1", _] => pixels / 4,
                ["ups", _, "3", "1", _] => 4 * pixels,
                _ => pixels,
            };
            row.multiply_adds += pixels * numbers;
        }
    }
    rows
}
