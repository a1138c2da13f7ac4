//! The single operations of `imagen bench`: the kernels under the networks, on random numbers.
//!
//! Convolutions run with weights that were transformed before, as drawing does; gradients with weights as they are, as
//! training does.

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use imagen::models::weights::{NamedTensor, Precision, write_safetensors};
use imagen::rng::Rng;
use imagen_kernels::attention::Attention;
use imagen_kernels::conv::{Conv3x3, Prepared};

use super::work::Work;
use crate::failure::Result;

/// Names, and what their shapes mean.
const KINDS: [(&str, Kind, &str); 5] = [
    ("conv3x3", Kind::Conv, "NxHxWxCxK"),
    ("conv3x3-grad-input", Kind::ConvGradInput, "NxHxWxCxK"),
    ("conv3x3-grad-weight", Kind::ConvGradWeight, "NxHxWxCxK"),
    ("attention", Kind::Attention, "NxHEADSxQUERIESxKEYSxWIDTH"),
    ("attention-train", Kind::AttentionTrain, "NxHEADSxQUERIESxKEYSxWIDTH"),
];

/// More numbers than this are a slip of the finger.
const LARGEST: usize = 1 << 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Conv,
    ConvGradInput,
    ConvGradWeight,
    Attention,
    /// Forward and backward.
    AttentionTrain,
}

/// The value of `--op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    kind: Kind,
    shape: [usize; 5],
}

/// The help of `--op`.
pub(super) fn help() -> String {
    let kinds: Vec<String> = KINDS.map(|(name, _, shape)| format!("{name}:{shape}")).into();
    format!("Run a single operation instead of a network: {}", kinds.join(", "))
}

impl FromStr for Operation {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = KINDS.map(|(name, ..)| name).join(", ");
        let (name, shape) = text.split_once(':').ok_or_else(|| format!("expected OP:SHAPE, with OP one of {names}"))?;
        let (_, kind, expected) =
            KINDS.into_iter().find(|(n, ..)| *n == name).ok_or_else(|| format!("expected one of {names}"))?;
        let numbers: Option<Vec<usize>> =
            shape.split('x').map(|number| number.parse().ok().filter(|n| (1..=1 << 20).contains(n))).collect();
        let shape: Option<[usize; 5]> = numbers.and_then(|numbers| numbers.try_into().ok());
        let shape = shape.ok_or_else(|| format!("expected {name}:{expected} with five whole numbers from 1"))?;
        let operation = Self { kind, shape };
        if operation.sizes().into_iter().all(|size| size.is_some_and(|size| size <= LARGEST)) {
            Ok(operation)
        } else {
            Err(format!("no tensor of more than {LARGEST} numbers"))
        }
    }
}

impl Operation {
    /// Numbers of the first input, the second input and the output, where they can be counted.
    fn sizes(self) -> [Option<usize>; 3] {
        let product = |factors: [usize; 4]| factors.into_iter().try_fold(1usize, usize::checked_mul);
        let [a, b, c, d, e] = self.shape;
        match self.kind {
            Kind::Conv | Kind::ConvGradInput | Kind::ConvGradWeight => {
                [product([a, b, c, d]), product([9, d, e, 1]), product([a, b, c, e])]
            }
            Kind::Attention | Kind::AttentionTrain => {
                [product([a, b, c, e]), product([2 * a, b, d, e]), product([a, b, c, e])]
            }
        }
    }

    fn conv(self) -> Conv3x3 {
        let [n, h, w, c, k] = self.shape;
        Conv3x3 { n, h, w, c, k, stride: 1 }
    }

    fn attention(self) -> Attention {
        let [b, heads, tq, tk, d] = self.shape;
        Attention { b, heads, tq, tk, d }
    }

    fn name(self) -> &'static str {
        KINDS.iter().find(|(_, kind, _)| *kind == self.kind).expect("every kind has a name").0
    }
}

/// An operation with its numbers.
pub(super) struct Running {
    operation: Operation,
    /// Pictures; or queries.
    x: Vec<f32>,
    /// Convolution weights; or keys and values.
    w: Vec<f32>,
    /// The bias of a convolution.
    bias: Vec<f32>,
    prepared: Option<Prepared>,
    y: Vec<f32>,
    /// Gradients of y, x, w.
    gy: Vec<f32>,
    gx: Vec<f32>,
    gw: Vec<f32>,
}

impl Running {
    /// With random numbers.
    pub(super) fn new(operation: Operation) -> Self {
        let [x, w, y] = operation.sizes().map(|size| size.expect("checked where it was read"));
        let rng = Rng::new(1);
        let attention = matches!(operation.kind, Kind::Attention | Kind::AttentionTrain);
        let bias = rng.fold(3).normal(if attention { 0 } else { operation.shape[4] });
        let scale = if attention { 1.0 } else { 1.0 / (9.0 * operation.shape[3] as f32).sqrt() };
        let w: Vec<f32> = rng.fold(1).normal(w).into_iter().map(|v| v * scale).collect();
        Self {
            operation,
            x: rng.fold(0).normal(x),
            prepared: (operation.kind == Kind::Conv).then(|| operation.conv().prepare(&w)),
            w,
            bias,
            y: vec![0.0; y],
            gy: rng.fold(2).normal(y),
            gx: vec![0.0; x],
            gw: Vec::new(),
        }
    }

    /// Shapes of x, w and y, channels last.
    fn shapes(&self) -> [Vec<usize>; 3] {
        let [a, b, c, d, e] = self.operation.shape;
        match self.operation.kind {
            Kind::Attention | Kind::AttentionTrain => [vec![a, c, b * e], vec![a, d, 2 * b * e], vec![a, c, b * e]],
            _ => [vec![a, b, c, d], vec![3, 3, d, e], vec![a, b, c, e]],
        }
    }
}

impl Work for Running {
    fn title(&self) -> String {
        let shape: Vec<String> = self.operation.shape.iter().map(usize::to_string).collect();
        format!("{} {}", self.operation.name(), shape.join("x"))
    }

    fn details(&self) -> Map<String, Value> {
        let details = json!({ "operation": self.operation.name(), "shape": self.operation.shape });
        details.as_object().expect("just made").clone()
    }

    fn multiply_adds(&self) -> u64 {
        let [a, b, c, d, e] = self.operation.shape.map(|n| n as u64);
        match self.operation.kind {
            Kind::Attention => 2 * a * b * c * d * e,
            Kind::AttentionTrain => 6 * a * b * c * d * e,
            _ => 9 * a * b * c * d * e,
        }
    }

    fn run(&mut self) -> Result<()> {
        let (conv, attention) = (self.operation.conv(), self.operation.attention());
        match self.operation.kind {
            Kind::Conv => {
                let prepared = self.prepared.as_ref().expect("made for this kind");
                conv.forward_prepared(&self.x, prepared, Some(&self.bias), None, 1.0, &mut self.y);
            }
            Kind::ConvGradInput => conv.grad_input(&self.gy, &self.w, &mut self.gx),
            Kind::ConvGradWeight => {
                self.gw.resize(self.w.len(), 0.0);
                let mut gb = vec![0.0; self.bias.len()];
                conv.grad_weight(&self.x, &self.gy, &mut self.gw, Some(&mut gb));
            }
            Kind::Attention => attention.forward(&self.x, &self.w, None, &mut self.y),
            Kind::AttentionTrain => {
                self.gw.resize(self.w.len(), 0.0);
                let mut log_sums = vec![0.0; attention.b * attention.heads * attention.tq];
                attention.forward_saving(&self.x, &self.w, None, &mut self.y, &mut log_sums);
                let (given, saved) = ([&self.x[..], &self.w], [&self.y[..], &log_sums]);
                attention.backward(given, None, saved, &self.gy, &mut self.gx, &mut self.gw);
            }
        }
        Ok(())
    }

    fn dump(&mut self, path: &Path) -> Result<()> {
        self.run()?;
        let [x, w, y] = self.shapes();
        let all = [
            ("x", &x, &self.x),
            ("w", &w, &self.w),
            ("b", &vec![self.bias.len()], &self.bias),
            ("y", &y, &self.y),
            ("gy", &y, &self.gy),
            ("gx", &x, &self.gx),
            ("gw", &w, &self.gw),
        ];
        let tensors: Vec<NamedTensor<'_>> = all
            .into_iter()
            .filter(|(_, shape, values)| shape.iter().product::<usize>() == values.len())
            .map(|(name, shape, values)| NamedTensor {
                name: name.to_owned(),
                shape: shape.clone(),
                values: Cow::Borrowed(&values[..]),
            })
            .collect();
        Ok(write_safetensors(path, &tensors, &HashMap::new(), Precision::F32)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_read_or_refused_with_what_was_expected() {
        let operation: Operation = "conv3x3:2x8x9x3x16".parse().unwrap();
        assert_eq!((operation.kind, operation.shape), (Kind::Conv, [2, 8, 9, 3, 16]));
        for (text, expected) in [
            ("conv3x3", "OP:SHAPE"),
            ("conv5x5:1x1x1x1x1", "expected one of conv3x3"),
            ("conv3x3:1x2x3x4", "NxHxWxCxK"),
            ("attention:1x2x3x4x0", "QUERIES"),
            ("attention:1048576x1048576x1048576x1x1", "no tensor of more"),
        ] {
            let error = text.parse::<Operation>().unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
