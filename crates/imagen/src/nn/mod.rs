//! What the tensor library lacks: the coarse, fused operations of channels-last diffusion networks, the layers made
//! of them, embeddings of noise levels, and parameters by name.
//!
//! Activations are `[n, h, w, c]` throughout: a pixel is a token, and neither attention nor a 1×1 convolution needs a
//! transpose. Each operation has one definition in ordinary tensor operations (`reference`), which every device
//! can run and differentiate, and one implementation on this project's CPU kernels (`cpu`).

#[allow(unreachable_pub)] // as `extension`
mod arguments;
mod cpu;
pub mod device;
mod embedding;
// the extension macro wants its trait and types public
#[allow(unreachable_pub)]
mod extension;
#[cfg(feature = "gpu")]
mod gpu;
mod layers;
pub mod ops;
mod params;
mod precision;
mod reference;
mod stored;
mod switches;
#[cfg(test)]
mod tests;

pub use embedding::{noise_embedding, timestep_embedding};
pub use imagen_kernels::mapped::Mapped;
pub use layers::{Conv3x3, GroupNorm, Init, LayerNorm, Linear, Position, Tokens};
pub use params::{Change, Parameter, Values, change, export, import, parameter_count, visit};
pub use precision::Precision;
pub use stored::{StoredConv, StoredLinear, StoredWeights, quantize_rows};
