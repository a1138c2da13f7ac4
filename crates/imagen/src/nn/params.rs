//! Parameters by name: what checkpoints, moving averages and reports are made of.
//!
//! A name is the path of fields from the network's root, e.g. `down.0.blocks.1.norm1.weight`.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Gradients, Tensor, TensorData};

use crate::error::{Error, Result};

/// One parameter as plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// A parameter, whatever its number of axes.
pub trait Parameter {
    /// Its extents, outermost first.
    fn shape(&self) -> Vec<usize>;

    /// Its numbers, `[len]`.
    fn flat(&self) -> Tensor<1>;

    /// What a backward pass left for it, `[len]`.
    fn gradient(&self, gradients: &Gradients) -> Option<Tensor<1>>;
}

impl<const D: usize> Parameter for Param<Tensor<D>> {
    fn shape(&self) -> Vec<usize> {
        self.val().dims().to_vec()
    }

    fn flat(&self) -> Tensor<1> {
        flat(self.val())
    }

    fn gradient(&self, gradients: &Gradients) -> Option<Tensor<1>> {
        self.val().grad(gradients).map(flat)
    }
}

fn flat<const D: usize>(tensor: Tensor<D>) -> Tensor<1> {
    let len = tensor.dims().iter().product::<usize>();
    tensor.reshape([len])
}

/// What is made of each parameter of a module.
pub trait Change {
    /// The parameter of this name, changed or not.
    fn change<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>>;
}

/// A walk over a module's parameters that knows their names.
struct Walk<F> {
    path: Vec<String>,
    with: F,
}

impl<F: FnMut(&str, &dyn Parameter)> ModuleVisitor for Walk<F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        (self.with)(&self.path.join("."), param);
    }
}

impl<F: Change> ModuleMapper for Walk<&mut F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.to_owned());
    }

    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        self.with.change(&self.path.join("."), param)
    }
}

/// Calls `f(name, parameter)` for every parameter, in a fixed order.
pub fn visit<M: Module>(module: &M, f: impl FnMut(&str, &dyn Parameter)) {
    module.visit(&mut Walk { path: Vec::new(), with: f });
}

/// The module with every parameter changed, in the same order.
pub fn change<M: Module>(module: M, with: &mut impl Change) -> M {
    module.map(&mut Walk { path: Vec::new(), with })
}

/// How many numbers the parameters hold.
pub fn parameter_count<M: Module>(module: &M) -> usize {
    let mut count = 0;
    visit(module, |_, parameter| count += parameter.shape().iter().product::<usize>());
    count
}

/// Every parameter's values by name.
pub fn export<M: Module>(module: &M) -> BTreeMap<String, Values> {
    let mut all = BTreeMap::new();
    visit(module, |name, parameter| {
        let values = parameter.flat().into_data().try_to_vec::<f32>().expect("parameters are f32");
        all.insert(name.to_owned(), Values { shape: parameter.shape(), values });
    });
    all
}

/// The module with every parameter replaced by `values(name, shape)`.
///
/// # Errors
/// The first error of `values`, and a value list of another length than its shape asks for.
pub fn import<M: Module>(module: M, values: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<M> {
    struct Import<F>(F, Option<Error>);
    impl<F: FnMut(&str, &[usize]) -> Result<Vec<f32>>> Change for Import<F> {
        fn change<const D: usize>(&mut self, name: &str, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.1.is_some() {
                return param;
            }
            let shape = param.val().dims();
            let values = (self.0)(name, &shape).and_then(|v| {
                let expected = shape.iter().product::<usize>();
                let message = || format!("parameter {name}: {} values for the shape {shape:?}", v.len());
                if v.len() == expected { Ok(v) } else { Err(Error::model(message())) }
            });
            match values {
                Ok(values) => param.map(|old| {
                    let new = Tensor::from_data(TensorData::new(values, shape), &old.device());
                    if old.is_require_grad() { new.require_grad() } else { new }
                }),
                Err(error) => {
                    self.1 = Some(error);
                    param
                }
            }
        }
    }
    let mut import = Import(values, None);
    let module = change(module, &mut import);
    import.1.map_or(Ok(module), Err)
}
