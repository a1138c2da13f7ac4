//! Sinusoidal embedding of a noise level.
//!
//! The paper conditions its networks on λ = log-SNR (appendix A) without saying on what scale it is embedded. Here the
//! level is first mapped to the angle u = (2/π)·atan2(σ, α) ∈ [0, 1], which is the cosine schedule's time and even for
//! every schedule, then embedded at 1000·u with wavelengths from 2π to 10 000·2π as Transformers embed positions.

use burn::tensor::{Device, Tensor, TensorData};

/// The embedding `[n, width]` of log-SNRs λ: cosines in the first half, sines in the second. `width` is even.
pub fn noise_embedding(log_snr: &[f64], width: usize, device: &Device) -> Tensor<2> {
    let half = width / 2;
    let mut values = Vec::with_capacity(log_snr.len() * width);
    for &lambda in log_snr {
        // σ/α = exp(-λ/2)
        let u = (-0.5 * lambda).exp().atan() * std::f64::consts::FRAC_2_PI;
        let phase = |i: usize| 1000.0 * u * (-(10_000f64.ln()) * i as f64 / half as f64).exp();
        values.extend((0..half).map(|i| phase(i).cos() as f32));
        values.extend((0..half).map(|i| phase(i).sin() as f32));
    }
    Tensor::from_data(TensorData::new(values, [log_snr.len(), width]), device)
}

/// The embedding `[n, width]` of discrete time steps as DDPM's networks take them: angles step · 10000^(−i/half), cosines
/// in the first half, sines in the second. `width` is even.
///
/// Frequencies and angles are rounded to f32: networks in that layout were trained on those.
pub fn timestep_embedding(steps: &[f32], width: usize, device: &Device) -> Tensor<2> {
    let half = width / 2;
    let mut values = Vec::with_capacity(steps.len() * width);
    for &step in steps {
        let angle = |i: usize| {
            let exponent = -(10_000f64.ln()) as f32 * i as f32 / half as f32;
            f64::from(step * f64::from(exponent).exp() as f32)
        };
        values.extend((0..half).map(|i| angle(i).cos() as f32));
        values.extend((0..half).map(|i| angle(i).sin() as f32));
    }
    Tensor::from_data(TensorData::new(values, [steps.len(), width]), device)
}
