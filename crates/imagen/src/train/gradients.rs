//! Gradients of a batch: what a backward pass leaves, summed over the batch's parts in a tree, on one rank or over many.
//!
//! The order of the sum depends on the parts' places in the batch alone, so that any number of ranks comes to the same bits.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Device, Gradients, Tensor, TensorData};

use super::flat::flat;
use crate::error::{Error, ErrorKind, Result};
use crate::models::unet::Unet;
use crate::nn::{self, ops};
use crate::ranks::{Group, Node, TreeSum, summed};

/// What stands for a gradient that a branch lacks: added to any number, it gives that number, −0 included.
const ABSENT: f32 = -0.0;

/// Numbers of the parameters whose gradients go between ranks at a time, at least.
const BUCKET: usize = 1 << 22;

/// Summed gradients by parameter name, flat `[len]`.
#[derive(Debug, Default)]
pub struct GradientSum(BTreeMap<String, Tensor<1>>);

impl GradientSum {
    /// Adds the gradients of one backward pass of `unet`.
    pub fn add(&mut self, unet: &Unet, gradients: &Gradients) {
        nn::visit(unet, |name, parameter| {
            if let Some(gradient) = parameter.gradient(gradients) {
                self.add_one(name.to_owned(), gradient);
            }
        });
    }

    fn add_one(&mut self, name: String, gradient: Tensor<1>) {
        let sum = match self.0.remove(&name) {
            Some(sum) => ops::add(sum, gradient, 1.0),
            None => gradient,
        };
        self.0.insert(name, sum);
    }

    /// The names of the parameters that have a gradient.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Takes in the gradient of a parameter that has none yet.
    pub(super) fn insert(&mut self, name: String, gradient: Tensor<1>) {
        self.0.insert(name, gradient);
    }

    /// Whether a parameter has a gradient.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Takes out the gradient of a parameter.
    pub(super) fn take(&mut self, name: &str) -> Option<Tensor<1>> {
        self.0.remove(name)
    }

    /// Both sums as one.
    fn plus(mut self, other: Self) -> Self {
        other.0.into_iter().for_each(|(name, gradient)| self.add_one(name, gradient));
        self
    }

    /// The norm of all gradients together.
    ///
    /// # Errors
    /// `NonFinite`, naming the first parameter whose gradient is not finite.
    pub fn norm(&self) -> Result<f64> {
        let mut total = 0.0;
        for (name, sum) in self.0.keys().zip(ops::sums_of_squares(self.0.values().cloned())) {
            if !sum.is_finite() {
                return Err(Error::new(ErrorKind::NonFinite, format!("the gradient of {name} is not finite")));
            }
            total += sum;
        }
        Ok(total.sqrt())
    }
}

/// The gradients of parts of a batch, from left to right.
#[derive(Debug, Default)]
pub(super) struct GradientTree(TreeSum<GradientSum>);

impl GradientTree {
    /// Takes in the gradients of the part at this place.
    pub(super) fn add(&mut self, place: usize, sum: GradientSum) {
        self.0.push(Node { first: place, len: 1, sum }, GradientSum::plus);
    }

    /// The names of the parameters that have a gradient in any part.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.0.nodes().iter().flat_map(|node| node.sum.names()).collect()
    }

    /// The sum over the parts of all ranks, `parts` in all. Every rank has summed its own; `lengths` are those of the parameters
    /// that have a gradient on any rank, by name.
    ///
    /// # Errors
    /// `Io` where a rank is gone.
    pub(super) fn total(
        self,
        group: &Group,
        parts: usize,
        lengths: &BTreeMap<&str, usize>,
        device: &Device,
    ) -> Result<GradientSum> {
        if group.size() == 1 {
            return Ok(self.0.total(GradientSum::plus).unwrap_or_default());
        }
        let mut nodes = self.0.into_nodes();
        let mut total = GradientSum::default();
        // some parameters at a time, so that little exists twice
        let mut rest = lengths.iter().peekable();
        while rest.peek().is_some() {
            let (mut bucket, mut size) = (Vec::new(), 0);
            while size < BUCKET
                && let Some((name, length)) = rest.next()
            {
                bucket.push((*name, *length));
                size += length;
            }
            let flattened = nodes.iter_mut().map(|node| {
                let mut values = Vec::with_capacity(size);
                for (name, length) in &bucket {
                    match node.sum.take(name) {
                        Some(gradient) => values.extend(flat(&gradient)),
                        None => values.resize(values.len() + length, ABSENT),
                    }
                }
                Node { first: node.first, len: node.len, sum: values }
            });
            let values = summed(group, flattened.collect(), parts)?;
            let mut values = &values[..];
            for (name, length) in bucket {
                let (own, after) = values.split_at(length);
                values = after;
                total.0.insert(name.to_owned(), Tensor::from_data(TensorData::new(own.to_vec(), [length]), device));
            }
        }
        Ok(total)
    }
}
