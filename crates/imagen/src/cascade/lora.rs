//! Low-rank adapters (LoRA, arXiv:2106.09685): what a fine-tuning adds to a network's weights, as two thin matrices each.
//!
//! The weights of a linear layer `[in, out]` or a convolution `[kh, kw, in, out]` are a matrix of `rows` (kh · kw · in)
//! by `columns` (out). An adapter of rank r is A `[r, rows]` and B `[columns, r]`; folded in, the weights are
//! W + strength · (alpha / r) · (B A)ᵀ.
//!
//! Files have the names and shapes of PEFT and diffusers: `unet.MODULE.lora_A.weight` (`[r, in]`, of a convolution `[r, in, kh,
//! kw]`), `unet.MODULE.lora_B.weight` (`[out, r]` or `[out, r, 1, 1]`) and, as kohya's tools write it, `unet.MODULE.alpha`;
//! `lora_down` and `lora_up` are read, too.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use super::config::StageName;
use crate::error::{Context, Error, Result};
use crate::models::weights::{self, NamedTensor, Precision, Weights};

const STAGE: &str = "imagen.lora.stage";
const STEP: &str = "imagen.lora.step";
const ENCODER: &str = "imagen.text_encoder";

/// What names of modules begin with, in files of this program and of others.
const PREFIXES: [&str; 2] = ["base_model.model.", "unet."];
/// How the names of A and B end; the first pair is written.
const ENDINGS: [[&str; 2]; 3] = [
    [".lora_A.weight", ".lora_B.weight"],
    [".lora_down.weight", ".lora_up.weight"],
    [".lora.down.weight", ".lora.up.weight"],
];

/// How the name of a parameter that can have an adapter ends.
pub(crate) const WEIGHT: &str = ".weight";

/// Rows and columns of a parameter as a matrix; none where it is neither a linear layer's nor a convolution's.
pub(crate) fn matrix(shape: &[usize]) -> Option<[usize; 2]> {
    match *shape {
        [rows, columns] => Some([rows, columns]),
        [height, width, channels, columns] => Some([height * width * channels, columns]),
        _ => None,
    }
}

/// The adapter of one parameter.
#[derive(Clone, Debug, PartialEq)]
pub struct Adapter {
    /// The parameter's extents.
    pub shape: Vec<usize>,
    /// `[r, rows]`, row-major.
    pub a: Vec<f32>,
    /// `[columns, r]`, row-major.
    pub b: Vec<f32>,
    /// alpha / r.
    pub scale: f32,
}

impl Adapter {
    fn rank(&self) -> usize {
        matrix(&self.shape).map_or(0, |[rows, _]| self.a.len() / rows.max(1))
    }

    /// Adds what it says to the parameter's values, times `strength`.
    fn add_to(&self, values: &mut [f32], strength: f32) {
        let (rank, [rows, columns]) = (self.rank(), matrix(&self.shape).expect("checked when it was read"));
        let by = strength * self.scale;
        for (r, a) in self.a.chunks_exact(rows).enumerate() {
            let b: Vec<f32> = (0..columns).map(|column| by * self.b[column * rank + r]).collect();
            for (a, row) in a.iter().zip(values.chunks_exact_mut(columns)) {
                row.iter_mut().zip(&b).for_each(|(value, b)| *value += a * b);
            }
        }
    }
}

/// Adapters of one stage, by the names of its parameters.
#[derive(Clone, Debug)]
pub struct Lora {
    label: String,
    /// The stage that they are of.
    pub stage: StageName,
    /// The text encoder that they were trained with, by its identity; absent in files of other programs.
    pub text_encoder: Option<String>,
    /// The steps that they were trained for; absent in files of other programs.
    pub step: Option<u64>,
    /// One for each parameter that was adapted.
    pub adapters: BTreeMap<String, Adapter>,
}

impl Lora {
    /// What the file of a stage's adapters is called in a run's folder.
    pub fn file_name(stage: StageName) -> String {
        format!("{stage}.lora.safetensors")
    }

    /// Adapters under a name for messages.
    pub fn new(
        label: String,
        stage: StageName,
        text_encoder: Option<String>,
        step: Option<u64>,
        adapters: BTreeMap<String, Adapter>,
    ) -> Self {
        Self { label, stage, text_encoder, step, adapters }
    }

    /// Opens a file of adapters; one that does not say its stage is taken to be the base's.
    ///
    /// # Errors
    /// `Io`; `Model` where it is damaged, has no adapters, or has ones that are not whole.
    pub fn open(path: &Path) -> Result<Self> {
        Self::read(&Weights::open(path)?)?.ok_or_else(|| {
            Error::model(format!(
                "{}: it has no adapters: expected tensors named MODULE.lora_A.weight and MODULE.lora_B.weight, as a run with \
                 train.lora writes them",
                path.display()
            ))
        })
    }

    /// The adapters of any file; nothing where it holds none, or no tensors at all.
    ///
    /// # Errors
    /// `Model` where it holds some and is damaged, or has ones that are not whole.
    pub fn find(path: &Path) -> Result<Option<Self>> {
        let Ok(file) = Weights::open(path) else { return Ok(None) };
        Self::read(&file)
    }

    fn read(file: &Weights) -> Result<Option<Self>> {
        // a whole network is not read to find out that it holds none
        if adapted(file).next().is_none() {
            return Ok(None);
        }
        file.verify()?;
        Self::whole(file).map(Some).context(|| file.label().to_owned())
    }

    /// Reads all adapters of a file.
    fn whole(file: &Weights) -> Result<Self> {
        let entry = |key: &str| file.metadata().get(key);
        let stage = entry(STAGE).map_or(Ok(StageName::Base), |name| name.parse().map_err(Error::of_model))?;
        let step = entry(STEP).and_then(|step| step.parse().ok());
        let mut adapters = BTreeMap::new();
        for (before, down, up) in adapted(file) {
            let module = PREFIXES.iter().fold(before, |module, prefix| module.strip_prefix(prefix).unwrap_or(module));
            let adapter = read_adapter(file, before, down, &format!("{before}{up}"))?;
            adapters.insert(format!("{module}{WEIGHT}"), adapter);
        }
        let text_encoder = entry(ENCODER).cloned();
        Ok(Self { label: file.label().to_owned(), stage, step, text_encoder, adapters })
    }

    /// Writes the adapters, in f16.
    ///
    /// # Errors
    /// `Io`; `NonFinite` where a number is not finite or does not fit f16.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut tensors = Vec::new();
        for (name, adapter) in &self.adapters {
            let module = name.strip_suffix(WEIGHT).unwrap_or(name);
            let (rank, columns) = (adapter.rank(), *adapter.shape.last().expect("a matrix"));
            let (a, shape_a, shape_b) = match adapter.shape[..] {
                [height, width, channels, _] => (
                    Cow::Owned(to_channels_first(&adapter.a, [height * width, channels])),
                    vec![rank, channels, height, width],
                    vec![columns, rank, 1, 1],
                ),
                _ => (Cow::Borrowed(&adapter.a[..]), vec![rank, adapter.shape[0]], vec![columns, rank]),
            };
            let named = |what: &str, shape, values| NamedTensor { name: format!("unet.{module}{what}"), shape, values };
            tensors.push(named(ENDINGS[0][0], shape_a, a));
            tensors.push(named(ENDINGS[0][1], shape_b, Cow::Borrowed(&adapter.b[..])));
            tensors.push(named(".alpha", Vec::new(), Cow::Owned(vec![adapter.scale * rank as f32])));
        }
        let mut metadata = HashMap::from([(STAGE.to_owned(), self.stage.to_string())]);
        metadata.extend(self.step.map(|step| (STEP.to_owned(), step.to_string())));
        metadata.extend(self.text_encoder.clone().map(|encoder| (ENCODER.to_owned(), encoder)));
        weights::write_safetensors(path, &tensors, &metadata, Precision::F16)
    }

    /// What names it in messages.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Numbers of all adapters.
    pub fn parameters(&self) -> usize {
        self.adapters.values().map(|adapter| adapter.a.len() + adapter.b.len()).sum()
    }

    /// Refuses a network that has not all parameters that are adapted; `shape` has those of the network.
    ///
    /// # Errors
    /// `Model`, naming the first that does not fit.
    pub(crate) fn check<'a>(&self, shape: impl Fn(&str) -> Option<&'a [usize]>) -> Result<()> {
        for (name, adapter) in &self.adapters {
            let why = match shape(name) {
                Some(there) if there == adapter.shape => continue,
                Some(there) => format!("{name} has the shape {there:?} here, and {:?} there", adapter.shape),
                None => format!("this network has no {name}"),
            };
            return Err(Error::model(format!("{}: these adapters are of another network: {why}", self.label)));
        }
        Ok(())
    }

    /// Adds what is said of a parameter to its values, times `strength`; nothing where it has no adapter.
    pub(crate) fn add_to(&self, name: &str, values: &mut [f32], strength: f32) {
        if let Some(adapter) = self.adapters.get(name) {
            adapter.add_to(values, strength);
        }
    }
}

/// The modules of a file that have adapters, with the name of the down tensor and the ending of the up tensor.
fn adapted(file: &Weights) -> impl Iterator<Item = (&str, &str, &'static str)> {
    file.names().filter_map(|name| ENDINGS.iter().find_map(|[down, up]| Some((name.strip_suffix(down)?, name, *up))))
}

/// One adapter of a file.
fn read_adapter(file: &Weights, module: &str, down: &str, up: &str) -> Result<Adapter> {
    let shape = |name: &str| {
        file.shape(name).ok_or_else(|| Error::model(format!("{down} has no partner {up}: the file is not whole")))
    };
    let (of_a, of_b) = (shape(down)?, shape(up)?);
    let (a, b) = (file.tensor_f32(down, of_a)?, file.tensor_f32(up, of_b)?);
    let (rank, shape, a) = match (of_a, of_b) {
        (&[rank, rows], &[columns, other]) if rank == other => (rank, vec![rows, columns], a),
        (&[rank, channels, height, width], &[columns, other, 1, 1]) if rank == other => {
            (rank, vec![height, width, channels, columns], to_channels_last(&a, [height * width, channels]))
        }
        _ => return Err(Error::model(format!("{down} {of_a:?} and {up} {of_b:?} make no adapter"))),
    };
    if a.is_empty() || b.is_empty() {
        return Err(Error::model(format!("{down} is empty")));
    }
    let alpha = format!("{module}.alpha");
    let alpha = match file.shape(&alpha) {
        Some(shape) => file.tensor_f32(&alpha, shape)?.first().copied(),
        None => None,
    };
    Ok(Adapter { shape, a, b, scale: alpha.map_or(1.0, |alpha| alpha / rank as f32) })
}

/// Rows of `[places, channels]` as rows of `[channels, places]`.
fn to_channels_first(rows: &[f32], [places, channels]: [usize; 2]) -> Vec<f32> {
    let transposed = |row: &[f32]| -> Vec<f32> {
        (0..channels).flat_map(|c| (0..places).map(move |place| row[place * channels + c])).collect()
    };
    rows.chunks_exact(places * channels).flat_map(transposed).collect()
}

/// Rows of `[channels, places]` as rows of `[places, channels]`.
fn to_channels_last(rows: &[f32], [places, channels]: [usize; 2]) -> Vec<f32> {
    to_channels_first(rows, [channels, places])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/golden/lora/make.py` says what is in them.
    const PEFT: &[u8] = include_bytes!("../../tests/golden/lora/adapter_model.safetensors");
    const GOLDEN: &[u8] = include_bytes!("../../tests/golden/lora/lora.safetensors");

    fn peft() -> Lora {
        Lora::read(&Weights::from_bytes(PEFT, "peft").unwrap()).unwrap().unwrap()
    }

    #[test]
    fn a_file_of_peft_folds_into_the_weights_that_peft_merges() {
        let (lora, golden) = (peft(), Weights::from_bytes(GOLDEN, "golden").unwrap());
        assert_eq!(lora.stage, StageName::Base);
        assert_eq!(lora.adapters.keys().collect::<Vec<_>>(), ["attention.q.weight", "down.conv.weight"]);
        for (name, adapter) in &lora.adapters {
            assert_eq!((adapter.rank(), adapter.scale), (2, 3.0), "{name}");
            let values = |kind: &str| golden.tensor_f32(&format!("{kind}.{name}"), &adapter.shape).unwrap();
            let (mut folded, base, merged) = (values("base"), values("base"), values("merged"));
            lora.add_to(name, &mut folded, 1.0);
            let furthest = folded.iter().zip(&merged).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(furthest < 1e-5, "{name}: {furthest}");
            // half of the change, and none
            let mut half = base.clone();
            lora.add_to(name, &mut half, 0.25);
            lora.add_to(name, &mut half, 0.25);
            let middle = base.iter().zip(&merged).map(|(a, b)| 0.5 * (a + b));
            let furthest = half.iter().zip(middle).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(furthest < 1e-5, "{name}: {furthest}");
            let mut none = base.clone();
            lora.add_to(name, &mut none, 0.0);
            assert_eq!(none, base);
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Lora::file_name(StageName::Sr256));
        let round = |values: &[f32]| values.iter().map(|x| f32::from(half::f16::from_f32(*x))).collect::<Vec<f32>>();
        let adapters = peft().adapters.into_iter().map(|(name, adapter)| {
            let (a, b) = (round(&adapter.a), round(&adapter.b));
            (name, Adapter { a, b, ..adapter })
        });
        let adapters: BTreeMap<String, Adapter> = adapters.collect();
        let written = Lora::new(String::new(), StageName::Sr256, Some("words".to_owned()), Some(7), adapters);
        written.write(&path).unwrap();
        let read = Lora::open(&path).unwrap();
        assert_eq!((read.stage, read.step, read.text_encoder.as_deref()), (StageName::Sr256, Some(7), Some("words")));
        assert_eq!(read.adapters, written.adapters);
        assert_eq!(read.parameters(), 2 * (6 + 4) + 2 * (27 + 5));
        let file = Weights::open(&path).unwrap();
        assert_eq!(
            file.shape("unet.down.conv.lora_A.weight"),
            Some(&[2, 3, 3, 3][..]),
            "as diffusers and PEFT have it"
        );
    }

    #[test]
    fn adapters_of_another_network_and_files_that_are_none_are_refused() {
        let lora = peft();
        let shape = |name: &str| -> Option<&[usize]> {
            match name {
                "down.conv.weight" => Some(&[3, 3, 3, 5]),
                "attention.q.weight" => Some(&[6, 5]),
                _ => None,
            }
        };
        let error = lora.check(shape).unwrap_err().to_string();
        assert!(error.contains("attention.q.weight has the shape [6, 5] here, and [6, 4] there"), "{error}");
        assert!(lora.check(|_| None).unwrap_err().to_string().contains("this network has no attention.q.weight"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("golden.safetensors");
        std::fs::write(&path, GOLDEN).unwrap();
        let error = Lora::open(&path).unwrap_err().to_string();
        assert!(error.contains("expected tensors named MODULE.lora_A.weight"), "{error}");
        assert!(Lora::find(&path).unwrap().is_none(), "weights of another kind");
        std::fs::write(&path, "[stage]").unwrap();
        assert!(Lora::find(&path).unwrap().is_none(), "no tensors");
    }

    #[test]
    fn damaged_adapters_are_found_to_be_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(Lora::file_name(StageName::Base));
        Lora::new(String::new(), StageName::Base, None, None, peft().adapters).write(&path).unwrap();
        assert!(Lora::find(&path).unwrap().is_some());
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        for error in [Lora::find(&path).unwrap_err(), Lora::open(&path).unwrap_err()] {
            assert!(error.to_string().contains("checksum"), "{error:#}");
        }
    }
}
