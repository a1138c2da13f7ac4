//! A PyTorch state dict of this library's own U-Net: the same names, the axes as PyTorch has them.
//!
//! Convolutions `[k, c, 3, 3]` and `[k, c, 1, 1]`, matrices `[k, c]`; here `[3, 3, c, k]` and `[c, k]`. A network of another
//! architecture is not bent into shape: everything must be there and nothing be left, or the whole is refused with the list.

use burn::tensor::Device;

use crate::error::{Error, Result};
use crate::models::unet::{Unet, UnetConfig};
use crate::models::weights::Weights;
use crate::nn::{self, Init};

/// The network of this description with the values of a state dict whose names begin with `prefix`.
///
/// # Errors
/// `Model` where tensors are missing, of another shape, or have no place in the network (all counted, the first listed), or a
/// number is not finite; the description's.
pub fn from_state_dict(config: &UnetConfig, weights: &Weights, prefix: &str, device: &Device) -> Result<Unet> {
    const SHOWN: usize = 12;
    let unet = Unet::new(config, &mut Init::zeros(device))?;
    let mut left: std::collections::BTreeSet<&str> = weights.names().collect();
    let mut complaints = Vec::new();
    let unet = nn::import(unet, |name, shape| {
        let file = format!("{prefix}{name}");
        let zeros = || Ok(vec![0.0; shape.iter().product()]);
        let Some(found) = weights.shape(&file).map(<[usize]>::to_vec) else {
            complaints.push(format!("`{file}` is missing (expected {:?})", as_stored(name, shape)));
            return zeros();
        };
        left.remove(file.as_str());
        let expected = as_stored(name, shape);
        let pointwise = expected.len() == 2 && found == [expected[0], expected[1], 1, 1];
        if found != expected && !pointwise {
            complaints.push(format!("`{file}` has shape {found:?} (expected {expected:?})"));
            return zeros();
        }
        let values = weights.tensor_f32(&file, &found)?;
        Ok(match *shape {
            [3, 3, c, k] => turned(&values, k, c, 9),
            [c, k] if is_matrix(name, shape) => turned(&values, k, c, 1),
            _ => values,
        })
    })?;
    complaints.extend(left.iter().map(|name| format!("`{name}` has no place in this network")));
    if complaints.is_empty() {
        return Ok(unet);
    }
    let count = complaints.len();
    let more = if count > SHOWN { format!("; and {} more", count - SHOWN) } else { String::new() };
    complaints.truncate(SHOWN);
    let list = complaints.join("; ");
    Err(Error::model(format!("{} is not of this network ({count} tensors): {list}{more}", weights.label())))
}

/// Whether a parameter is a linear layer's matrix.
fn is_matrix(name: &str, shape: &[usize]) -> bool {
    shape.len() == 2 && name.ends_with("weight")
}

/// The shape in a state dict of a parameter of this shape here.
fn as_stored(name: &str, shape: &[usize]) -> Vec<usize> {
    match *shape {
        [3, 3, c, k] => vec![k, c, 3, 3],
        [c, k] if is_matrix(name, shape) => vec![k, c],
        _ => shape.to_vec(),
    }
}

/// `[k, c, taps]` → `[taps, c, k]`.
fn turned(values: &[f32], k: usize, c: usize, taps: usize) -> Vec<f32> {
    (0..values.len()).map(|i| values[(i % k * c + i / k % c) * taps + i / k / c]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_are_turned_as_in_pytorch() {
        // [k, c, taps] = [2, 3, 2], numbered
        let values: Vec<f32> = (0..12).map(|i| i as f32).collect();
        let at = |tap: usize, channel: usize, output: usize| ((output * 3 + channel) * 2 + tap) as f32;
        let expected: Vec<f32> =
            (0..2).flat_map(|t| (0..3).flat_map(move |c| (0..2).map(move |k| at(t, c, k)))).collect();
        assert_eq!(turned(&values, 2, 3, 2), expected);
        assert_eq!(as_stored("a.weight", &[3, 3, 5, 7]), [7, 5, 3, 3]);
        assert_eq!(as_stored("a.weight", &[5, 7]), [7, 5]);
        assert_eq!(as_stored("a.tokens", &[5, 7]), [5, 7]);
    }
}
