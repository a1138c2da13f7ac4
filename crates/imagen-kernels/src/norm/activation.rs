//! What may follow a normalization.

/// What follows a normalization in the same pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// Nothing.
    None,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// The exact GELU, `x Phi(x)`.
    Gelu,
}
