//! The model that is compiled into the program (feature `builtin-model`), so that the program alone can draw.

use imagen::cascade::ModelFiles;

#[cfg(feature = "builtin-model")]
pub(crate) use imagen_builtin::FILES;

/// Names and contents of the files: none, since the program was built without them.
#[cfg(not(feature = "builtin-model"))]
pub(crate) static FILES: &[(&str, &[u8])] = &[];

/// The built-in model, if there is one.
pub(crate) fn model() -> Option<ModelFiles> {
    (!FILES.is_empty()).then_some(ModelFiles::BuiltIn(FILES))
}
