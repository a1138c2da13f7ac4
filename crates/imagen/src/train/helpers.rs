//! Captions encoded by shares: the first rank deals batches of them, the others encode, and the first writes them down in order.

use burn::tensor::{Device, Tensor, TensorData};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};
use crate::ranks::Group;
use crate::text::{TextEmbedding, TextEncoder};

/// What a helper says of a batch: the shape `[b, t, d]` of what follows, or what went wrong.
#[derive(Serialize, Deserialize)]
struct Answer {
    shape: [usize; 3],
    failed: Option<String>,
}

/// Encodes these batches, one on each rank, the first here.
///
/// # Errors
/// The encoder's, wherever it ran; `Io` where a rank is gone.
pub(super) fn encode(
    group: &Group,
    encoder: &dyn TextEncoder,
    batches: &[&[&str]],
    device: &Device,
) -> Result<Vec<TextEmbedding>> {
    let Some((own, others)) = batches.split_first() else { return Ok(Vec::new()) };
    for (i, batch) in others.iter().enumerate() {
        group.send(i + 1, &serde_json::to_vec(batch).expect("texts are plain data"))?;
    }
    let own = encoder.encode(own);
    // what was asked for is taken, whatever came of the own batch
    let answers: Vec<Result<TextEmbedding>> = (1..=others.len()).map(|rank| answer(group, rank, device)).collect();
    std::iter::once(own).chain(answers).collect()
}

/// The embeddings that a rank was asked for.
fn answer(group: &Group, rank: usize, device: &Device) -> Result<TextEmbedding> {
    let unreadable = |e| Error::usage(format!("rank {rank} answers what cannot be read")).with_source(e);
    let Answer { shape, failed } = serde_json::from_slice(&group.receive(rank)?).map_err(unreadable)?;
    if let Some(message) = failed {
        return Err(Error::new(ErrorKind::Data, message).context(format!("rank {rank}")));
    }
    let [b, t, _] = shape;
    let sequence = TensorData::new(floats(&group.receive(rank)?), shape);
    let mask = TensorData::new(floats(&group.receive(rank)?), [b, t]);
    Ok(TextEmbedding { sequence: Tensor::from_data(sequence, device), mask: Tensor::from_data(mask, device) })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

/// Encodes what the first rank sends, until it sends nothing more.
///
/// # Errors
/// `Io` where the first rank is gone.
pub(super) fn help(group: &Group, encoder: &dyn TextEncoder) -> Result<()> {
    loop {
        let asked = group.receive(0)?;
        if asked.is_empty() {
            return Ok(());
        }
        let captions: std::result::Result<Vec<String>, _> = serde_json::from_slice(&asked);
        let captions = captions.map_err(|e| Error::usage("the first rank asks what cannot be read").with_source(e));
        let encoded = captions.and_then(|captions| {
            let captions: Vec<&str> = captions.iter().map(String::as_str).collect();
            encoder.encode(&captions)
        });
        let head = |answer: Answer| group.send(0, &serde_json::to_vec(&answer).expect("plain data"));
        match encoded {
            Err(error) => head(Answer { shape: [0; 3], failed: Some(format!("{error:#}")) })?,
            Ok(TextEmbedding { sequence, mask }) => {
                head(Answer { shape: sequence.dims(), failed: None })?;
                for values in [sequence.into_data(), mask.into_data()] {
                    let values: Vec<f32> = values.try_to_vec().expect("embeddings are f32");
                    group.send(0, bytemuck::cast_slice(&values))?;
                }
            }
        }
    }
}

/// Tells the other ranks that there is nothing more to encode.
///
/// # Errors
/// `Io` where a rank is gone.
pub(super) fn dismiss(group: &Group) -> Result<()> {
    (1..group.size()).try_for_each(|rank| group.send(rank, &[]))
}
