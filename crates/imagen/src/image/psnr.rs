//! How near a picture is to another, as a ratio of signal to noise.

/// The largest PSNR that is reported; equal pictures would have an infinite one.
pub const MAX_PSNR: f64 = 100.0;

/// Peak signal-to-noise ratio of numbers in [-1, 1], in dB.
pub fn psnr(a: &[f32], b: &[f32]) -> f64 {
    let squares: f64 = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let mean = squares / a.len() as f64;
    (10.0 * (4.0 / mean).log10()).min(MAX_PSNR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn psnr_follows_its_definition_and_has_an_end() {
        // an error of 2 / 10 of the range everywhere is 20 dB
        assert!((psnr(&[0.2; 12], &[0.0; 12]) - 20.0).abs() < 1e-6);
        assert!((psnr(&[0.2, 0.0], &[0.0, 0.0]) - 10.0 * 200f64.log10()).abs() < 1e-6);
        assert_eq!(psnr(&[0.5; 3], &[0.5; 3]), MAX_PSNR);
    }
}
