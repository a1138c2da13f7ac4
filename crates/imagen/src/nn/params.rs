//! Parameters by name: what checkpoints, moving averages and reports are made of.
//!
//! A name is the path of fields from the network's root, e.g. `down.0.blocks.1.norm1.weight`.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

use crate::error::{Error, Result};

/// One parameter as plain numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Row-major values.
    pub values: Vec<f32>,
}

/// Calls `f(name, shape)` for every parameter, in a fixed order.
pub fn visit_parameters<M: Module>(module: &M, f: impl FnMut(&str, &[usize])) {
    struct Visit<F>(Vec<String>, F);
    impl<F: FnMut(&str, &[usize])> ModuleVisitor for Visit<F> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            (self.1)(&self.0.join("."), &param.val().dims());
        }
    }
    module.visit(&mut Visit(Vec::new(), f));
}

/// How many numbers the parameters hold.
pub fn parameter_count<M: Module>(module: &M) -> usize {
    let mut count = 0;
    visit_parameters(module, |_, shape| count += shape.iter().product::<usize>());
    count
}

/// Every parameter's values by name.
pub fn export<M: Module>(module: &M) -> BTreeMap<String, Values> {
    #[derive(Default)]
    struct Export(Vec<String>, BTreeMap<String, Values>);
    impl ModuleVisitor for Export {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let shape = param.val().dims().to_vec();
            let values = param.val().into_data().try_to_vec::<f32>().expect("parameters are f32");
            self.1.insert(self.0.join("."), Values { shape, values });
        }
    }
    let mut export = Export::default();
    module.visit(&mut export);
    export.1
}

/// The module with every parameter replaced by `values(name, shape)`.
///
/// # Errors
/// The first error of `values`, and a value list of another length than its shape asks for.
pub fn import<M: Module>(module: M, values: impl FnMut(&str, &[usize]) -> Result<Vec<f32>>) -> Result<M> {
    struct Import<F>(Vec<String>, F, Option<Error>);
    impl<F: FnMut(&str, &[usize]) -> Result<Vec<f32>>> ModuleMapper for Import<F> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            if self.2.is_some() {
                return param;
            }
            let name = self.0.join(".");
            let shape = param.val().dims();
            let values = (self.1)(&name, &shape).and_then(|v| {
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
                    self.2 = Some(error);
                    param
                }
            }
        }
    }
    let mut import = Import(Vec::new(), values, None);
    let module = module.map(&mut import);
    import.2.map_or(Ok(module), Err)
}
