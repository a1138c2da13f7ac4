//! The encoded texts of a batch as the networks of this project's own format and of imagen-pytorch take them.

use crate::models::unet::Text;

/// What a batch of pictures is asked for.
#[derive(Clone, Debug)]
pub struct PromptText {
    /// The prompts.
    pub prompts: Text,
    /// Other prompts that the pictures are on the way to, and how far each is, from 0 to 1.
    pub toward: Option<(Text, Vec<f64>)>,
    /// What guidance leads away from, in place of the network's null text.
    pub negative: Option<Text>,
}

impl From<Text> for PromptText {
    fn from(prompts: Text) -> Self {
        Self { prompts, toward: None, negative: None }
    }
}
