//! What a network of DeepFloyd IF costs, from its configuration alone: multiply-adds, and bytes of the maps of an evaluation.

use burn::tensor::Device;

use super::{IfUnet, IfUnetConfig};

impl IfUnetConfig {
    /// Multiply-adds of one evaluation for one picture of this side with `tokens` tokens of text: convolutions, matrices and
    /// attention products over pixels. What is computed once for a text is left out.
    pub fn multiply_adds(&self, side: usize, tokens: usize, device: &Device) -> u64 {
        let pixels = |level: usize| (side >> level).pow(2) as u64;
        let mut sum = 0;
        for (name, shape) in IfUnet::tensors(self, device) {
            let Some(level) = self.level_of(&name) else { continue };
            let part = name.trim_end_matches(".weight").rsplit('.').next().unwrap_or_default();
            if shape.len() < 2 || matches!(part, "time_emb_proj" | "add_k_proj" | "add_v_proj") {
                continue;
            }
            sum += pixels(level) * shape.iter().product::<usize>() as u64;
            if part == "to_q" {
                let own = if self.attends_to_text_alone(&name, level) { 0 } else { pixels(level) };
                sum += 2 * pixels(level) * (own + tokens as u64) * shape[0] as u64;
            }
        }
        sum
    }

    /// Bytes of the maps that are in memory at once for one picture of this side: those that wait for the way up, and those
    /// that the finest level works with.
    pub fn map_bytes(&self, side: usize) -> u64 {
        /// Maps of a block at the finest level, beside its joined input and that input normalised.
        const WORKING: usize = 3;
        let pixels = |level: usize| (side >> level).pow(2);
        let first = self.levels[0].channels;
        let mut waiting = first * pixels(0);
        for (i, level) in self.levels.iter().enumerate() {
            waiting += level.layers * level.channels * pixels(i);
            if i + 1 < self.levels.len() {
                waiting += level.channels * pixels(i + 1);
            }
        }
        let joined = (first + self.levels.get(1).map_or(first, |level| level.channels)) * pixels(0);
        4 * (waiting + 2 * joined + WORKING * first * pixels(0)) as u64
    }

    /// The level at which a tensor works on a map, if it does.
    fn level_of(&self, name: &str) -> Option<usize> {
        let last = self.levels.len() - 1;
        let number = |rest: &str| rest.split('.').next().and_then(|number| number.parse::<usize>().ok());
        if let Some(i) = name.strip_prefix("down_blocks.").and_then(number) {
            return Some(i + usize::from(name.contains(".downsamplers.")));
        }
        if let Some(j) = name.strip_prefix("up_blocks.").and_then(number) {
            return Some(last - j - usize::from(name.contains(".upsamplers.")));
        }
        match name.split('.').next() {
            Some("mid_block") => Some(last),
            Some("conv_in" | "conv_out") => Some(0),
            _ => None,
        }
    }

    fn attends_to_text_alone(&self, name: &str, level: usize) -> bool {
        if name.starts_with("mid_block") { self.middle_only_text } else { self.levels[level].only_text }
    }
}
