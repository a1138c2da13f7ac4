//! What varies between the U-Nets of the cascade, as data: the paper's block tables (appendix F) and small presets.
//!
//! The network that these describe is in the parent module. Choices that the paper leaves open are enums here, and each
//! says whose reading it is.

use serde::{Deserialize, Serialize};

/// How blocks, resampling and skips are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// The base model's: residual blocks, then down-sampling inside a residual block ("biggan"), a skip per block, a middle
    /// block, one more block per level on the way up (Dhariwal & Nichol; section 2.5, F.1).
    Adm,
    /// Efficient U-Net: a strided convolution first, sub-pixel up-sampling last, a skip per level, no middle (B.1, F.2).
    Efficient,
}

/// Where the factor 1/√2 of appendix B.1 ("skip connections") is applied; the paper does not say which skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipScale {
    /// Nowhere.
    None,
    /// Residual blocks return (x + h)/√2, as the works that the paper cites do.
    Residual,
    /// Long skips are multiplied by 1/√2 before they are joined.
    Long,
    /// Residual blocks return h + x/√2.
    Shortcut,
    /// Both `Residual` and `Long`.
    Both,
}

impl SkipScale {
    /// Factor of a long skip where it is joined.
    pub(super) fn of_long_skips(self) -> f32 {
        match self {
            Self::Long | Self::Both => std::f32::consts::FRAC_1_SQRT_2,
            Self::None | Self::Residual | Self::Shortcut => 1.0,
        }
    }
}

/// How a long skip meets the way up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SkipJoin {
    /// Side by side on the channels.
    Concatenate,
    /// Sum (Efficient layout only: widths must agree).
    Add,
}

/// How the pictures attend to the text sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextAttention {
    /// Not at all (only the pooled vector conditions; ablation A.13a).
    None,
    /// Text keys and values are put before the picture's own in one softmax (D.3.1).
    Concatenated,
    /// A cross-attention layer of its own.
    Separate,
}

/// How the text sequence becomes the one vector that is added to the noise embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TextPooling {
    /// No pooled vector.
    None,
    /// The mean of the attended positions.
    Mean,
    /// Attention from the mean token (F.1–F.3 `feature_pooling_type: "attention"`).
    Attention,
}

/// How many attention heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heads {
    /// A fixed number (F.2, F.3: 8).
    Count(usize),
    /// As many as fit at this width each (F.1: `per_head_channels` 64).
    Width(usize),
}

impl Heads {
    /// Heads for a hidden width.
    pub fn of(self, width: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Width(each) => (width / each).max(1),
        }
    }
}

/// One resolution level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// Channels of its residual blocks.
    pub channels: usize,
    /// Residual blocks on the way down (and up; layout `adm` has one more on the way up).
    pub blocks: usize,
    /// Whether its pixels attend to each other.
    #[serde(default)]
    pub self_attention: bool,
    /// Whether its pixels attend to the text.
    #[serde(default)]
    pub text_attention: bool,
    /// Side of a learned map that is added to this level's features on the way down, so that it works at this size alone;
    /// 0 for none. Not in the paper: without it, what is to be where must come from the noise and the rim.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub position: usize,
    /// Channels of a map of `position`×`position` that the text's mean vector draws and that is added beside the learned
    /// one; 0 for none. Not in the paper: two matrices learn what is where from far fewer pictures than attention does.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub text_map: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Level {
    /// One residual block, no attention.
    pub fn plain(channels: usize) -> Self {
        Self { channels, blocks: 1, self_attention: false, text_attention: false, position: 0, text_map: 0 }
    }
}

/// A U-Net, completely described.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnetConfig {
    /// Arrangement of blocks and skips.
    pub layout: Layout,
    /// Channels of the pictures: 3 for RGB.
    pub image_channels: usize,
    /// Whether a low-resolution picture and its augmentation level condition the network (super-resolution stages).
    pub low_resolution: bool,
    /// Channels of the first convolution; also the width of the sinusoidal noise embedding.
    pub channels: usize,
    /// Width of the conditional embedding (noise + pooled text + augmentation level).
    pub embedding: usize,
    /// Width of the text encoder's vectors; 0 makes an unconditional network.
    pub text_dim: usize,
    /// Width to which the text is projected first.
    pub text_width: usize,
    /// Resolution levels, finest first.
    pub levels: Vec<Level>,
    /// Attention heads.
    pub heads: Heads,
    /// Hidden width of attention over the level's channels (figures A.28, A.29: 2 for Efficient U-Nets, 1 for ADM).
    pub attention_expansion: usize,
    /// How pictures attend to text.
    pub text_attention: TextAttention,
    /// How the text is pooled.
    pub text_pooling: TextPooling,
    /// Where 1/√2 goes.
    pub skip_scale: SkipScale,
    /// How long skips are joined.
    pub skip_join: SkipJoin,
    /// Efficient layout: residual blocks after the last up-sampling, at the pictures' own resolution, the first of which
    /// also sees the first convolution's features; then GroupNorm, SiLU and a 3×3 convolution as in ADM. 0 is figure
    /// A.30, a matrix per pixel. Not in the paper: single pixels of noise are told apart in far fewer steps with it.
    #[serde(default)]
    pub output_blocks: usize,
    /// Groups of every GroupNorm (lowered where they do not divide the channels).
    pub groups: usize,
    /// Vectors that stand in for a dropped text, kept with the weights; 0 for none (a dropped text is then zeros). The
    /// stage's `null_text` says whether they are learned.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub null_text: usize,
    /// Things that an auxiliary head tells apart while a composed world is trained on, the background included: it names what is
    /// at each place of the coarsest level; 0 for none. A finished stage goes without it. Not in the paper.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub things: usize,
    /// A small network that reads from the text alone what is to be where on the coarsest level's places; its map is added to
    /// every level that has positions, and the auxiliary head reads it. Not in the paper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub planner: Option<Planner>,
}

/// The shape of a planner: residual blocks, each with attention to its places and to the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Planner {
    /// Channels of its map, 192 by default.
    pub channels: usize,
    /// Residual blocks, each with attention behind it; 4 by default.
    pub blocks: usize,
}

impl Default for Planner {
    fn default() -> Self {
        Self { channels: 192, blocks: 4 }
    }
}

impl Planner {
    /// Its blocks as those of a level.
    pub(super) fn level(self) -> Level {
        let Self { channels, blocks } = self;
        Level { blocks, self_attention: true, text_attention: true, ..Level::plain(channels) }
    }
}

impl UnetConfig {
    /// F.1: the base model, 64×64, 2 billion parameters, for text vectors of width `text_dim`.
    pub fn base64(text_dim: usize) -> Self {
        let level = |channels, attention| Level {
            blocks: 3,
            self_attention: attention,
            text_attention: attention,
            ..Level::plain(channels)
        };
        Self {
            layout: Layout::Adm,
            image_channels: 3,
            low_resolution: false,
            channels: 512,
            embedding: 2048,
            text_dim,
            text_width: 2048,
            levels: vec![level(512, false), level(1024, true), level(1536, true), level(2048, true)],
            heads: Heads::Width(64),
            attention_expansion: 1,
            text_attention: TextAttention::Concatenated,
            text_pooling: TextPooling::Attention,
            skip_scale: SkipScale::None,
            skip_join: SkipJoin::Concatenate,
            output_blocks: 0,
            groups: 32,
            null_text: 0,
            things: 0,
            planner: None,
        }
    }

    /// F.2: Efficient U-Net 64→256, 600 million parameters.
    pub fn sr256(text_dim: usize) -> Self {
        let level = |channels, blocks| Level { blocks, ..Level::plain(channels) };
        let deepest = Level { self_attention: true, text_attention: true, ..level(1024, 8) };
        Self {
            layout: Layout::Efficient,
            low_resolution: true,
            channels: 128,
            embedding: 2048,
            text_width: 1024,
            levels: vec![level(128, 2), level(256, 4), level(512, 8), deepest],
            heads: Heads::Count(8),
            attention_expansion: 2,
            skip_scale: SkipScale::Residual,
            ..Self::base64(text_dim)
        }
    }

    /// F.3: Efficient U-Net 256→1024: no self-attention, separate text cross-attention; runs at any size divisible by 16.
    pub fn sr1024(text_dim: usize) -> Self {
        let mut config = Self { text_attention: TextAttention::Separate, ..Self::sr256(text_dim) };
        if let Some(deepest) = config.levels.last_mut() {
            deepest.self_attention = false;
        }
        config
    }

    /// Picture sides must be multiples of this.
    pub fn granularity(&self) -> usize {
        let halvings = match self.layout {
            Layout::Adm => self.levels.len().saturating_sub(1),
            Layout::Efficient => self.levels.len(),
        };
        1 << halvings
    }

    /// The only picture side that learned positions allow; `None` where there are none.
    pub fn side(&self) -> Option<usize> {
        self.sides().next().map(|(_, side)| side)
    }

    /// The levels with learned positions, by number, and the picture side that each asks for.
    fn sides(&self) -> impl Iterator<Item = (usize, usize)> {
        let first = usize::from(self.layout == Layout::Efficient);
        let placed = self.levels.iter().enumerate().filter(|(_, level)| level.position > 0);
        placed.map(move |(i, level)| (i, level.position << (i + first)))
    }

    /// Each size with the most that it may be: far beyond any network, and small enough that nothing counted from them overflows.
    fn limits(&self) -> Vec<(String, usize, usize)> {
        const WIDTH: usize = 1 << 16;
        const NUMBER: usize = 1 << 10;
        let mut limits = vec![
            ("levels".to_owned(), self.levels.len(), 16),
            ("channels".to_owned(), self.channels, WIDTH),
            ("embedding".to_owned(), self.embedding, WIDTH),
            ("text_dim".to_owned(), self.text_dim, WIDTH),
            ("text_width".to_owned(), self.text_width, WIDTH),
            ("null_text".to_owned(), self.null_text, NUMBER),
            ("things".to_owned(), self.things, WIDTH),
            ("attention_expansion".to_owned(), self.attention_expansion, 64),
            ("output_blocks".to_owned(), self.output_blocks, NUMBER),
            ("groups".to_owned(), self.groups, WIDTH),
        ];
        if let Some(Planner { channels, blocks }) = self.planner {
            limits.extend([
                ("planner.channels".to_owned(), channels, WIDTH),
                ("planner.blocks".to_owned(), blocks, NUMBER),
            ]);
        }
        for (i, level) in self.levels.iter().enumerate() {
            let of = |name: &str| format!("levels[{i}].{name}");
            limits.extend([
                (of("channels"), level.channels, WIDTH),
                (of("blocks"), level.blocks, NUMBER),
                (of("position"), level.position, NUMBER),
                (of("text_map"), level.text_map, WIDTH),
            ]);
        }
        limits
    }

    /// What is wrong with this description, if anything.
    ///
    /// # Errors
    /// `Usage`, naming the field and what it must be.
    pub fn validate(&self) -> crate::Result<()> {
        let fail = |message: String| Err(crate::Error::usage(format!("unet: {message}")));
        if self.levels.is_empty() || self.levels.iter().any(|l| l.channels == 0 || l.blocks == 0) {
            return fail("levels: at least one level, each with channels ≥ 1 and blocks ≥ 1".into());
        }
        if let Some((name, value, most)) = self.limits().into_iter().find(|(_, value, most)| value > most) {
            return fail(format!("{name} = {value}: expected at most {most}"));
        }
        let channels = (1..=4).contains(&self.image_channels);
        if !channels || self.channels < 2 || self.channels % 2 != 0 || self.embedding == 0 {
            return fail("image_channels 1 (grey) to 4 (RGBA), channels even and ≥ 2, embedding ≥ 1".into());
        }
        if self.text_dim > 0 && self.text_width == 0 {
            return fail("text_width must be ≥ 1 where text_dim is".into());
        }
        if self.null_text > 0 && self.text_dim == 0 {
            return fail("null_text needs text_dim: a network without text drops none".into());
        }
        let attending = self.levels.iter().filter(|l| l.self_attention || l.text_attention);
        for channels in attending.map(|level| level.channels).chain(self.planner.map(|planner| planner.channels)) {
            let width = channels * self.attention_expansion;
            let heads = self.heads.of(width);
            if heads == 0 || width == 0 || width % heads != 0 {
                return fail(format!("{heads} heads do not divide an attention width of {width}"));
            }
        }
        if let Some((i, _)) = self.sides().find(|(_, side)| Some(*side) != self.side()) {
            return fail(format!(
                "levels[{i}].position = {}: positions of two levels belong to different sides",
                self.levels[i].position
            ));
        }
        if let Some(i) = self.levels.iter().position(|l| l.text_map > 0 && (l.position == 0 || self.text_dim == 0)) {
            return fail(format!("levels[{i}].text_map needs that level's position, and text_dim"));
        }
        let places = self.levels.last().is_some_and(|level| level.position > 0);
        let text =
            self.text_dim > 0 && self.text_attention != TextAttention::None && self.text_pooling != TextPooling::None;
        if self.planner.is_some_and(|planner| planner.channels == 0 || planner.blocks == 0 || !places || !text) {
            return fail(
                "planner: channels and blocks of at least 1, the last level's position, text_dim, and a text_attention and \
                 text_pooling other than \"none\""
                    .into(),
            );
        }
        if self.layout == Layout::Adm && (self.skip_join == SkipJoin::Add || self.output_blocks > 0) {
            return fail("skip_join \"add\" and output_blocks need layout \"efficient\"".into());
        }
        Ok(())
    }
}
