//! How good drawn pictures are, in numbers: distances between two sets of pictures, and whether a thing is found again.
//!
//! An [`Extractor`] turns pictures into features, by [`Layout`] without any weights or by Inception-v3 with given ones;
//! [`Statistics`] and [`Summary`] keep them under their [`Protocol`], [`frechet`](fn@frechet), [`kid`](fn@kid) and
//! [`precision_recall`] compare two sets, [`retrieval`] asks which real picture a drawn one is nearest to, and
//! [`forced_choice`] and [`nearest_by_pixels`] which of some candidates. [`Clip`] compares
//! pictures with texts. Every number comes with an interval (`Interval`).
//!
//! [`human`] is about what people say of them: DrawBench, photorealism and captions.
//!
//! Nothing here draws, and nothing here knows a data set: it is given pictures. A distance is an FID or a KID as papers
//! report them where its protocol is Inception's and the weights are the published ones ([`Protocol::is_inception`]).

mod appearance;
mod clip;
mod extractor;
mod features;
mod frechet;
pub mod human;
mod interval;
mod kid;
mod npz;
mod pixels;
mod precision;
pub mod retrieval;
mod statistics;
mod summary;

pub use appearance::{Appearance, forced_choice};
pub use clip::{Clip, clip_score};
pub use extractor::{Extractor, InceptionResize, Prepared, Protocol};
pub use features::Layout;
pub use frechet::{Frechet, frechet, frechet_distance};
pub use interval::{Interval, mean, wilson};
pub use kid::{Kid, KidOptions, kid};
pub use pixels::nearest_by_pixels;
pub use precision::{Covered, NEIGHBOURS, PrecisionRecall, precision_recall};
pub use statistics::Statistics;
pub use summary::Summary;
