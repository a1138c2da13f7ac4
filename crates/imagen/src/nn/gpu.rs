//! Devices without kernels of their own take the definitions in `reference`.

use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::{Autodiff, Cube};

use super::extension::NetworkOps;

impl NetworkOps for Cube {}
impl<C: CheckpointStrategy> NetworkOps for Autodiff<Cube, C> {}
