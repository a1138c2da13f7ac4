//! How frozen matrices are kept in memory.

use crate::names::named;

/// How the matrices of a frozen network are kept in memory. Vectors (biases, norms) are always f32, and so are all sums.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Storage {
    /// As the file has them.
    #[default]
    Stored,
    /// 4 bytes a number.
    F32,
    /// Half precision: 2 bytes a number, relative error up to 2⁻¹¹.
    F16,
    /// The upper half of f32: 2 bytes a number, relative error up to 2⁻⁸.
    Bf16,
    /// 8-bit integers with one scale per output feature, the row's largest / 127.
    Int8,
}

named!(Storage, "storage", Stored = "stored", F32 = "f32", F16 = "f16", Bf16 = "bf16", Int8 = "int8");
