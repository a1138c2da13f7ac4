//! The model that is compiled into the program (feature `builtin-model`), so that the program alone can draw.
//!
//! The names are those of a model folder; `cascade::ModelFiles` reads both alike.

use imagen::cascade::ModelFiles;

/// Names and contents of the files, empty where the program was built without them.
#[cfg(feature = "builtin-model")]
pub(crate) const FILES: &[(&str, &[u8])] = &[
    ("base.safetensors", include_bytes!("../../../models/default/base.safetensors")),
    ("sr256.safetensors", include_bytes!("../../../models/default/sr256.safetensors")),
    ("sr1024.safetensors", include_bytes!("../../../models/default/sr1024.safetensors")),
    ("text/config.json", include_bytes!("../../../models/minilm/config.json")),
    ("text/tokenizer.json", include_bytes!("../../../models/minilm/tokenizer.json")),
    ("text/model.safetensors", include_bytes!("../../../models/minilm/model.safetensors")),
];
/// Names and contents of the files, empty where the program was built without them.
#[cfg(not(feature = "builtin-model"))]
pub(crate) const FILES: &[(&str, &[u8])] = &[];

/// The built-in model, if there is one.
pub(crate) fn model() -> Option<ModelFiles> {
    (!FILES.is_empty()).then_some(ModelFiles::BuiltIn(FILES))
}
