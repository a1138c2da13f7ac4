//! Every format that comes from outside, as one function of bytes: read as far as the program reads it, whatever they are. The
//! fuzz targets and the tests (`crates/imagen/tests/it/corpus.rs`) share it; golden files stand in for the rest of a folder
//! of which one file is the input.

use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use imagen::Error;
use imagen::cascade::deepfloyd::Process;
use imagen::data::Source;
use imagen::eval::Summary;
use imagen::eval::human::{PromptSuite, Study};
use imagen::image::{DecodeOptions, Preparation, decode, png};
use imagen::models::bert::BertConfig;
use imagen::models::clip::ClipConfig;
use imagen::models::if_unet::{IfUnet, IfUnetConfig};
use imagen::models::t5::T5Config;
use imagen::models::weights::{Storage, Weights, shard_names};
use imagen::text::{EncoderFiles, TextOptions, load};
use imagen::train::Recipe;

/// A reader of one format.
pub(crate) type Reader = fn(&[u8]) -> Result<(), Error>;

/// The formats by the names of their corpora.
pub(crate) const READERS: [(&str, Reader); 10] = [
    ("weights", weights),
    ("configs", configs),
    ("tokenizers", tokenizers),
    ("recipes", recipes),
    ("shards", shards),
    ("pictures", pictures),
    ("png_text", png_text),
    ("tables", tables),
    ("study", study),
    ("statistics", statistics),
];

fn golden(name: &str) -> PathBuf {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().find_map(|at| {
        let golden = at.join("crates/imagen/tests/golden");
        golden.is_dir().then_some(golden)
    });
    crates.expect("within the project").join(name)
}

/// Enough for every seed, and little enough that a header's claim is refused.
fn small() -> DecodeOptions {
    DecodeOptions { max_side: 4096, max_bytes: 16 << 20, ..DecodeOptions::default() }
}

/// A safetensors file, and each tensor that it names, in every form that weights are kept in.
pub(crate) fn weights(bytes: &[u8]) -> Result<(), Error> {
    let weights = Weights::from_bytes(bytes.to_vec(), "input")?;
    for name in weights.names().map(str::to_owned).collect::<Vec<_>>() {
        let shape = weights.shape(&name).expect("a name has a shape").to_vec();
        if let Ok(values) = weights.tensor_f32(&name, &shape) {
            assert_eq!(values.len(), shape.iter().product::<usize>());
        }
        if let [k, c] = shape[..] {
            for storage in [Storage::Stored, Storage::F32, Storage::Bf16, Storage::Int8] {
                let _ = weights.linear(&name, [k, c], storage);
            }
        }
    }
    Ok(())
}

/// A configuration, its kind by the first byte: networks, schedules, text encoders, how pictures are prepared, indexes of shards.
pub(crate) fn configs(bytes: &[u8]) -> Result<(), Error> {
    let Some((kind, json)) = bytes.split_first() else { return Ok(()) };
    match kind % 7 {
        0 => {
            let config = IfUnetConfig::from_json(json)?;
            assert!(!IfUnet::tensors(&config, &Device::flex()).is_empty());
            assert!(config.map_bytes(config.sample_size.min(1 << 12)) < u64::MAX / 2);
        }
        1 => assert!(Process::from_json(json)?.alphas_cumprod().iter().all(|bar| bar.is_finite())),
        2 => T5Config::from_json(json).map(|_| ())?,
        3 => BertConfig::from_json(json).map(|_| ())?,
        4 => ClipConfig::from_json(json).map(|_| ())?,
        5 => Preparation::read(json)?.check(24)?,
        _ => assert!(shard_names("input", json)?.iter().all(|name| !name.contains('/') && name != "..")),
    }
    Ok(())
}

/// A tokenizer, its kind by the first byte: fields at the end of a `spiece.model`, a `tokenizer.json`, the `vocab.json` or the
/// `merges.txt` of RoBERTa; then a caption in it.
pub(crate) fn tokenizers(bytes: &[u8]) -> Result<(), Error> {
    let Some((kind, input)) = bytes.split_first() else { return Ok(()) };
    let files = match kind % 4 {
        0 => {
            let pieces = fs::read(golden("t5/gated/spiece.model")).expect("a golden file");
            EncoderFiles::open(&golden("t5/gated"))?.with("spiece.model", [&pieces, input].concat())
        }
        1 => EncoderFiles::open(&golden("t5/plain"))?.with("tokenizer.json", input.to_vec()),
        2 => EncoderFiles::open(&golden("roberta/tiny"))?.with("vocab.json", input.to_vec()),
        _ => EncoderFiles::open(&golden("roberta/tiny"))?.with("merges.txt", input.to_vec()),
    };
    let encoder = load(files, &TextOptions::default(), &Device::flex())?;
    let caption = "a Red apple, 3 über e\u{301} \u{fb01} 苹果";
    encoder.token_count(caption)?;
    encoder.cut_text(caption)?;
    encoder.unknown_text(caption).map(|_| ())
}

/// A training recipe.
pub(crate) fn recipes(bytes: &[u8]) -> Result<(), Error> {
    let recipe = Recipe::parse(&imagen::input::text(bytes)?.text)?;
    // what is read can be written, and is then the same
    assert_eq!(Recipe::parse(&recipe.to_toml())?.digest(), recipe.digest());
    Ok(())
}

/// A folder of its own for files that are read in place.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a place for files");
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).expect("a place for files");
    }
    folder
}

/// A set, its pictures and their captions.
fn set(path: &Path) -> Result<(), Error> {
    let source = Source::open(path)?;
    for example in source.examples().iter().take(20) {
        let _ = source.picture(example, &small());
    }
    Ok(())
}

/// A shard of WebDataset.
pub(crate) fn shards(bytes: &[u8]) -> Result<(), Error> {
    set(folder(&[("0.tar", bytes)]).path())
}

/// A picture, whatever its format.
pub(crate) fn pictures(bytes: &[u8]) -> Result<(), Error> {
    for channels in [3, 4] {
        let picture = decode::decode(bytes, &DecodeOptions { channels, ..small() })?;
        assert_eq!(picture.pixels().len(), picture.width() * picture.height() * channels);
    }
    Ok(())
}

/// What a PNG file says of itself.
pub(crate) fn png_text(bytes: &[u8]) -> Result<(), Error> {
    png::read_text(bytes, &small()).map(|_| ())
}

/// The captions of a set, their kind by the first byte: `metadata.jsonl`, `metadata.csv`, COCO's, a text beside a picture.
pub(crate) fn tables(bytes: &[u8]) -> Result<(), Error> {
    let Some((kind, input)) = bytes.split_first() else { return Ok(()) };
    let picture = fs::read(golden("decode/palette.png")).expect("a golden file");
    let name = ["metadata.jsonl", "metadata.csv", "captions_x.json", "0.txt"][usize::from(kind % 4)];
    set(folder(&[("0.png", &picture), ("1.png", &picture), (name, input)]).path())
}

/// A study's manifest or a suite of prompts, by the first byte.
pub(crate) fn study(bytes: &[u8]) -> Result<(), Error> {
    let Some((kind, input)) = bytes.split_first() else { return Ok(()) };
    if kind % 2 == 1 {
        return PromptSuite::parse(input).map(|_| ());
    }
    let study = Study::parse(input)?;
    // numbers of models and settings are passed on, and serde_json may read their last digit otherwise
    let again = Study::parse(study.to_json().as_bytes())?;
    assert_eq!((&again.prompts, again.sets.len()), (&study.prompts, study.sets.len()));
    Ok(())
}

/// A file of statistics of pictures, ours or NumPy's, by the first byte.
pub(crate) fn statistics(bytes: &[u8]) -> Result<(), Error> {
    let Some((kind, input)) = bytes.split_first() else { return Ok(()) };
    let name = ["input.safetensors", "input.npz"][usize::from(kind % 2)];
    let folder = folder(&[(name, input)]);
    let path = folder.path().join(name);
    if kind % 2 == 0 {
        return Summary::load(&path).map(|_| ());
    }
    let mut protocol = imagen::eval::Protocol::layout();
    (protocol.extractor, protocol.features) = ("inception-v3".to_owned(), 3);
    Summary::load_npz(&path, &protocol).map(|_| ())
}
