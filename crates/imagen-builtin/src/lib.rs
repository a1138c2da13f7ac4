//! The default cascade and its text encoder, for the program and the Python module to compile in.
//!
//! A crate of its own, so that 78 MB are turned into object code once and not with every change of what uses them, and a
//! `static`, which has one place: a `const` is copied into every unit of code that names it.

/// Names and contents of the files. The names are those of a model folder; `imagen::cascade::ModelFiles` reads both alike.
pub static FILES: &[(&str, &[u8])] = &[
    ("base.safetensors", include_bytes!("../../../models/default/base.safetensors")),
    ("sr256.safetensors", include_bytes!("../../../models/default/sr256.safetensors")),
    ("sr1024.safetensors", include_bytes!("../../../models/default/sr1024.safetensors")),
    ("known.safetensors", include_bytes!("../../../models/default/known.safetensors")),
    ("text/config.json", include_bytes!("../../../models/minilm/config.json")),
    ("text/tokenizer.json", include_bytes!("../../../models/minilm/tokenizer.json")),
    ("text/model.safetensors", include_bytes!("../../../models/minilm/model.safetensors")),
];
