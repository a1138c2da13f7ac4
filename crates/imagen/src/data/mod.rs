//! Training data: captioned pictures from folders, shards or COCO, in an order that a seed fixes.
//!
//! [`Source`] finds pictures and captions and says what it found, [`Transform`] makes examples of one size out of them,
//! [`Loader`] deals batches that are a function of (seed, position), [`survey`] looks at every picture of a set, [`shapes`]
//! draws a small set for tests and first steps. Batches are plain `Vec<f32>`: nothing here knows a tensor, a network or an encoder.

mod dice;
pub mod loader;
mod question;
pub mod shapes;
pub mod source;
pub mod survey;
pub mod transform;
mod write;

pub use loader::{Batch, Batches, Deal, Loader, LoaderOptions, Pixels};
pub use question::{Candidate, Question};
pub use shapes::ShapesSummary;
pub use source::compose::{Composition, World};
pub use source::{CocoCaption, Example, Layout, MAX_BAD, Odd, Source, Split, allowed, coco_captions};
pub use survey::{Look, Moments, Survey};
pub use transform::Transform;
pub use write::is_unfinished;
