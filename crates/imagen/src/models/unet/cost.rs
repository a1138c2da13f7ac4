//! What a network costs: parameters, multiply-adds and activation memory per level, from its description alone.
//!
//! The numbers follow the construction in this folder layer by layer; a test holds them against a built network's
//! parameters. Multiply-adds count convolutions, matrices and attention products for one picture and one text, of
//! [`TEXT_TOKENS`] tokens where nothing else is said; normalisations and activations are left out.

use serde::Serialize;

use super::config::{Layout, Level, SkipJoin, TextAttention, TextPooling, UnetConfig};
use super::embedder::text_map_hidden;

/// Length of the text that [`cost`] assumes.
pub const TEXT_TOKENS: usize = 16;

/// Cost of one level, or of the parts outside the levels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LevelCost {
    /// What this row counts.
    pub name: String,
    /// Side of the maps that it works at, in pixels; 0 for what has no map.
    pub side: usize,
    /// Numbers that are learned.
    pub parameters: u64,
    /// Multiply-adds for one picture.
    pub multiply_adds: u64,
    /// Bytes of the maps that a training step keeps of one picture for the backward pass, in f32.
    pub activation_bytes: u64,
    /// Of these, what residual blocks can make again instead (`nn::ops::recomputing`).
    pub recomputable_bytes: u64,
    /// Multiply-adds for one picture of making it again.
    pub recomputing_multiply_adds: u64,
    /// Bytes of the largest of the kept maps of one picture.
    pub largest_map_bytes: u64,
    /// Bytes of the maps that exist at once when one picture is drawn, at the layer where they are most: what a layer reads and
    /// writes, and the skips that wait.
    pub drawing_bytes: u64,
    /// The matrices among the parameters: how many, of how many rows and columns; a convolution is nine.
    #[serde(skip)]
    pub matrices: Vec<[usize; 3]>,
}

impl LevelCost {
    fn at(name: impl Into<String>, side: usize) -> Self {
        Self { name: name.into(), side, ..Self::default() }
    }

    /// So many numbers are kept for the backward pass.
    fn keep(&mut self, numbers: usize) {
        let bytes = 4 * numbers as u64;
        self.activation_bytes += bytes;
        self.largest_map_bytes = self.largest_map_bytes.max(bytes);
    }

    /// So many numbers exist at once when a picture is drawn.
    fn draw(&mut self, numbers: usize) {
        self.drawing_bytes = self.drawing_bytes.max(4 * numbers as u64);
    }

    /// Numbers that Adafactor keeps of all second moments where it factors matrices whose sides are both at least this.
    pub fn factored_moments(&self, min_dim_size: usize) -> u64 {
        let factored = self.matrices.iter().filter(|[_, rows, columns]| *rows.min(columns) >= min_dim_size);
        let sizes = factored.map(|[n, rows, columns]| [n * rows * columns, n * (rows + columns)]);
        let [whole, means] = sizes.fold([0, 0], |sums, sizes| [sums[0] + sizes[0] as u64, sums[1] + sizes[1] as u64]);
        self.parameters - whole + means
    }

    /// Numbers that are learned and no matrix.
    fn vector(&mut self, numbers: usize) {
        self.parameters += numbers as u64;
    }

    /// So many matrices that are learned.
    fn matrix(&mut self, count: usize, c: usize, k: usize) {
        self.parameters += (count * c * k) as u64;
        self.matrices.push([count, c, k]);
    }

    /// A matrix over `rows` rows, whose input is kept.
    fn dense(&mut self, rows: usize, c: usize, k: usize) {
        self.keep(rows * c);
        self.dense_sharing(rows, c, k);
    }

    /// A matrix over `rows` rows, whose input something else keeps.
    fn dense_sharing(&mut self, rows: usize, c: usize, k: usize) {
        self.vector(k);
        self.matrix(1, c, k);
        self.multiply_adds += (rows * c * k) as u64;
    }

    /// A 3×3 convolution with `side²` outputs; its input is not counted.
    fn conv(&mut self, side: usize, c: usize, k: usize) {
        self.vector(k);
        self.matrix(9, c, k);
        self.multiply_adds += (9 * side * side * c * k) as u64;
    }

    /// A normalisation, whose input is kept.
    fn norm(&mut self, rows: usize, c: usize) {
        self.vector(2 * c);
        self.keep(rows * c);
    }

    /// A residual block whose second half works at `side`; `before` is the side of its input.
    fn resnet_block(&mut self, before: usize, side: usize, from: usize, to: usize, embedding: usize) {
        self.norm(before * before, from);
        self.conv(side, from, to);
        self.dense(1, embedding, 2 * to);
        self.norm(side * side, to);
        self.conv(side, to, to);
        if before == side {
            // one operation: of its own maps it keeps the first convolution's, counted with the second norm
            self.recomputable_bytes += (4 * side * side * to) as u64;
            self.recomputing_multiply_adds += (9 * side * side * from * to) as u64;
        } else {
            self.keep(side * side * (from + to)); // both convolutions' inputs
        }
        if from != to {
            self.dense_sharing(side * side, from, to);
        }
    }

    /// The latest skip is joined to a map with so many channels.
    fn join(&mut self, skips: &mut Vec<(usize, usize)>, side: usize, width: &mut usize, concatenate: bool) {
        let before = skips.iter().map(|(_, numbers)| numbers).sum::<usize>() + side * side * *width;
        let (channels, _) = skips.pop().unwrap_or((0, 0));
        *width += if concatenate { channels } else { 0 };
        self.draw(before + side * side * *width);
    }

    fn attention_layer(
        &mut self,
        config: &UnetConfig,
        [side, tokens]: [usize; 2],
        channels: usize,
        picture: bool,
        text: bool,
    ) {
        let (pixels, hidden) = (side * side, channels * config.attention_expansion);
        self.norm(pixels, channels);
        self.dense(pixels, channels, hidden);
        let mut keys = 0;
        if picture {
            self.dense_sharing(pixels, channels, 2 * hidden);
            keys += pixels;
        }
        if text {
            self.norm(tokens, config.text_width);
            self.dense(tokens, config.text_width, 2 * hidden);
            keys += tokens;
        }
        self.multiply_adds += (2 * pixels * keys * hidden) as u64;
        self.keep(pixels * hidden + keys * 2 * hidden); // queries, keys and values
        self.dense(pixels, hidden, channels);
    }

    fn attention(&mut self, config: &UnetConfig, at: [usize; 2], level: &Level) {
        let text = level.text_attention && config.text_dim > 0 && config.text_attention != TextAttention::None;
        let together = config.text_attention == TextAttention::Concatenated;
        if level.self_attention && text && together {
            self.attention_layer(config, at, level.channels, true, true);
            return;
        }
        if level.self_attention {
            self.attention_layer(config, at, level.channels, true, false);
        }
        if text {
            self.attention_layer(config, at, level.channels, false, true);
        }
    }
}

/// Numbers of the maps of a level's attention that exist at once: the input, its norm, queries, keys and values, and the result.
fn attention_maps(config: &UnetConfig, side: usize, level: &Level) -> usize {
    let attends = level.self_attention || level.text_attention;
    let hidden = level.channels * config.attention_expansion;
    if attends { side * side * (2 * level.channels + 4 * hidden) } else { 0 }
}

/// Cost of the network for one picture of `side`×`side`: embeddings, each level down, the middle, each level up, ends.
pub fn cost(config: &UnetConfig, side: usize) -> Vec<LevelCost> {
    cost_with_text(config, side, TEXT_TOKENS)
}

/// [`cost`] with a text of so many tokens.
pub fn cost_with_text(config: &UnetConfig, side: usize, tokens: usize) -> Vec<LevelCost> {
    let efficient = config.layout == Layout::Efficient;
    let concatenate = config.skip_join == SkipJoin::Concatenate;
    let embedding = config.embedding;
    let mut embeddings = LevelCost::at("embeddings", 0);
    for _ in 0..1 + usize::from(config.low_resolution) {
        embeddings.dense(1, config.channels, embedding);
        embeddings.dense(1, embedding, embedding);
    }
    if config.text_dim > 0 {
        let width = config.text_width;
        embeddings.vector(config.null_text * config.text_dim);
        embeddings.dense(tokens, config.text_dim, width);
        if config.text_pooling != TextPooling::None {
            embeddings.norm(tokens, width);
            if config.text_pooling == TextPooling::Attention {
                embeddings.dense(1, width, width);
                embeddings.dense(tokens, width, 2 * width);
            }
            embeddings.norm(1, width);
            embeddings.dense(1, width, embedding);
        }
    }
    let mut ends = LevelCost::at("first and last", side);
    let input = config.image_channels * if config.low_resolution { 2 } else { 1 };
    ends.conv(side, input, config.channels);
    ends.keep(side * side * input);

    let mut rows = vec![embeddings];
    if let Some(planner) = config.planner {
        let places = config.levels.last().map_or(0, |level| level.position);
        let (level, mut row) = (planner.level(), LevelCost::at("planner", places));
        row.vector(places * places * planner.channels);
        for _ in 0..planner.blocks {
            row.resnet_block(places, places, planner.channels, planner.channels, embedding);
            row.attention(config, [places, tokens], &level);
        }
        rows.push(row);
    }
    let coarsest = config.levels.last().map_or(0, |level| level.channels);
    let (mut width, mut at) = (config.channels, side);
    let skip_input = !efficient || config.output_blocks > 0;
    // the channels of each map that waits to be joined, and the numbers in it
    let mut skips = if skip_input { vec![(width, at * at * width)] } else { Vec::new() };
    let waiting = |skips: &[(usize, usize)]| skips.iter().map(|(_, numbers)| numbers).sum::<usize>();
    for (i, level) in config.levels.iter().enumerate() {
        let mut row = LevelCost::at(format!("down {i}"), at);
        if efficient {
            row.keep(at * at * width);
            at /= 2;
            row.side = at;
            row.conv(at, width, level.channels);
            width = level.channels;
        }
        let places = level.position * level.position;
        row.vector(places * width);
        if level.text_map > 0 {
            let hidden = text_map_hidden(config);
            row.norm(1, config.text_dim);
            row.dense(1, config.text_dim, hidden);
            row.dense(1, hidden, places * level.text_map);
            row.dense(places, level.text_map, width);
        }
        if let Some(planner) = config.planner.filter(|_| places > 0) {
            row.dense(places, planner.channels, width);
        }
        for b in 0..level.blocks {
            row.resnet_block(at, at, width, level.channels, embedding);
            row.draw(waiting(&skips) + at * at * (width + level.channels));
            width = level.channels;
            if !efficient || b + 1 == level.blocks {
                row.attention(config, [at, tokens], level);
                row.draw(waiting(&skips) + attention_maps(config, at, level));
            }
            if !efficient {
                skips.push((width, at * at * width));
            }
        }
        if efficient {
            skips.push((width, at * at * width));
        } else if i + 1 < config.levels.len() {
            row.resnet_block(at, at / 2, width, width, embedding);
            at /= 2;
            skips.push((width, at * at * width));
        }
        rows.push(row);
    }
    if config.things > 0 {
        let mut row = LevelCost::at("naming", at);
        let read = config.planner.map_or(coarsest, |planner| planner.channels);
        row.norm(at * at, read);
        row.dense(at * at, read, config.things);
        row.keep(at * at * config.things);
        rows.push(row);
    }
    if efficient {
        skips.pop();
    } else if let Some(level) = config.levels.last() {
        let mut row = LevelCost::at("middle", at);
        row.resnet_block(at, at, width, width, embedding);
        row.attention(config, [at, tokens], level);
        row.resnet_block(at, at, width, width, embedding);
        rows.push(row);
    }
    for (i, level) in config.levels.iter().enumerate().rev() {
        let mut row = LevelCost::at(format!("up {i}"), at);
        let count = if efficient { level.blocks } else { level.blocks + 1 };
        let joins = match (efficient, i + 1 == config.levels.len()) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => count,
        };
        for b in 0..count {
            if b < joins {
                row.join(&mut skips, at, &mut width, concatenate);
            }
            row.resnet_block(at, at, width, level.channels, embedding);
            row.draw(waiting(&skips) + at * at * (width + level.channels));
            width = level.channels;
            if !efficient || b + 1 == count {
                row.attention(config, [at, tokens], level);
                row.draw(waiting(&skips) + attention_maps(config, at, level));
            }
        }
        if efficient {
            let finer = if i == 0 { config.channels } else { config.levels[i - 1].channels };
            row.dense(at * at, width, 4 * finer);
            row.draw(waiting(&skips) + at * at * (width + 4 * finer));
            at *= 2;
            width = finer;
        } else if i > 0 {
            row.resnet_block(at, at * 2, width, width, embedding);
            at *= 2;
            row.draw(waiting(&skips) + 2 * at * at * width);
        }
        rows.push(row);
    }
    if config.output_blocks > 0 {
        let mut row = LevelCost::at("output", side);
        row.join(&mut skips, side, &mut width, concatenate);
        for _ in 0..config.output_blocks {
            row.resnet_block(side, side, width, config.channels, embedding);
            row.draw(side * side * (width + config.channels));
            width = config.channels;
        }
        rows.push(row);
    }
    if skip_input {
        ends.norm(side * side, width);
        ends.conv(side, width, config.image_channels);
        ends.keep(side * side * width);
    } else {
        ends.dense(side * side, width, config.image_channels);
    }
    rows.push(ends);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::unet::{Planner, Unet};
    use crate::nn::{Init, parameter_count};
    use burn::tensor::Device;

    #[test]
    fn counted_parameters_are_those_of_the_network() {
        let small = |mut config: UnetConfig| {
            for level in &mut config.levels {
                level.channels /= 32;
                level.blocks = level.blocks.min(2);
            }
            (config.channels, config.embedding, config.text_width) = (8, 24, 16);
            config.heads = crate::models::unet::Heads::Count(2);
            config
        };
        let mut cases =
            vec![small(UnetConfig::base64(12)), small(UnetConfig::sr256(12)), small(UnetConfig::sr1024(12))];
        cases.push(UnetConfig { text_dim: 0, ..cases[0].clone() });
        cases.push(UnetConfig { text_pooling: TextPooling::Mean, ..cases[1].clone() });
        cases.push(UnetConfig { null_text: 3, ..cases[0].clone() });
        cases.push(UnetConfig { things: 5, ..cases[1].clone() });
        cases.push(UnetConfig { output_blocks: 2, ..cases[2].clone() });
        let placed = |mut config: UnetConfig| {
            (config.levels[1].position, config.levels[1].text_map) = (4, 3);
            config
        };
        let mut planned = placed(cases[1].clone());
        planned.levels[2].position = 2;
        (planned.levels[3].position, planned.planner) = (1, Some(Planner { channels: 8, blocks: 2 }));
        cases.extend([UnetConfig { things: 5, ..planned.clone() }, planned]);
        cases.extend([placed(cases[0].clone()), placed(cases[1].clone())]);
        for config in cases {
            let device = Device::flex();
            let unet = Unet::new(&config, &mut Init::zeros(&device)).unwrap();
            let counted: u64 = cost(&config, 64).iter().map(|row| row.parameters).sum();
            assert_eq!(counted, parameter_count(&unet) as u64, "{config:?}");
        }
    }

    #[test]
    fn a_longer_text_costs_what_its_keys_and_projections_cost() {
        let config = UnetConfig::sr256(4096);
        let sum = |tokens| cost_with_text(&config, 256, tokens).iter().map(|row| row.multiply_adds).sum::<u64>();
        assert_eq!(cost(&config, 256).iter().map(|row| row.multiply_adds).sum::<u64>(), sum(TEXT_TOKENS));
        // projection, pooling keys and values; at each of two 16×16 layers keys, values and their products
        let token = 4096 * 1024 + 1024 * 2048 + 2 * (1024 * 4096 + 2 * 256 * 2048);
        assert_eq!(sum(TEXT_TOKENS + 5) - sum(TEXT_TOKENS), 5 * token);
    }

    #[test]
    fn the_paper_presets_have_the_sizes_that_the_paper_states() {
        let millions =
            |config: &UnetConfig, side| cost(config, side).iter().map(|r| r.parameters).sum::<u64>() / 1_000_000;
        let base = millions(&UnetConfig::base64(4096), 64);
        assert!((1900..2300).contains(&base), "section 2.5 says 2 billion; counted {base} million");
        let sr256 = millions(&UnetConfig::sr256(4096), 256);
        assert!((480..680).contains(&sr256), "section 2.5 says 600 million; counted {sr256} million");
    }
}
