//! The guard against numbers that are infinite or not numbers: an error that says where, never a black picture.

use burn::tensor::Tensor;

use crate::error::{Error, ErrorKind, Result};

/// Passes when every number of `x` is finite; `what` names the tensor in the error.
///
/// One pass over the tensor when all is well; the sum is only a quick test, and the verdict does not depend on whether
/// it overflows.
///
/// # Errors
/// [`ErrorKind::NonFinite`] with the count and the index of the first such number.
pub fn check_finite<const D: usize>(x: &Tensor<D>, what: &str) -> Result<()> {
    let x = x.clone().detach();
    if x.clone().sum().into_scalar::<f32>().is_finite() {
        return Ok(());
    }
    let dims = x.dims();
    let values = x.into_data().convert::<f32>().try_to_vec::<f32>().expect("converted to f32");
    let bad = || values.iter().enumerate().filter(|(_, value)| !value.is_finite());
    let Some((mut rest, value)) = bad().next() else { return Ok(()) };
    let mut index = dims;
    for (i, size) in index.iter_mut().zip(dims).rev() {
        (*i, rest) = (rest % size, rest / size);
    }
    Err(Error::new(
        ErrorKind::NonFinite,
        format!(
            "{what} has {} of {} numbers that are not finite, the first at {index:?} ({value}); \
             is the model trained, and the guidance weight or the learning rate not too large?",
            bad().count(),
            values.len(),
        ),
    ))
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn a_number_that_is_not_finite_is_named_with_its_place() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let x = Tensor::<2>::from_data([[1.0, 2.0, 3.0], [4.0, bad, bad]], &Device::flex());
            let error = check_finite(&x, "x_hat").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::NonFinite);
            let expected = format!("x_hat has 2 of 6 numbers that are not finite, the first at [1, 1] ({bad});");
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn large_finite_numbers_pass_although_their_sum_overflows() {
        let x = Tensor::<1>::from_data([f32::MAX, f32::MAX, -1.0], &Device::flex());
        assert!(check_finite(&x, "x_hat").is_ok());
    }
}
