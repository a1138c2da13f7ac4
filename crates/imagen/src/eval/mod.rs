//! How good drawn pictures are, in numbers: distances between two sets of pictures, and whether a thing is found again.
//!
//! [`Layout`] turns a picture into features without any weights, [`Statistics`] and [`Summary`] keep them, [`frechet`]
//! and [`kid`] compare two sets, [`retrieval`] asks which real picture a drawn one is nearest to. Every number comes with
//! an interval (`Interval`). [`Clip`] compares pictures with texts.
//!
//! [`human`] is about what people say of them: DrawBench, photorealism and captions.
//!
//! Nothing here draws, and nothing here knows a data set: it is given pictures. There is no Inception network, so no
//! number of this module is an FID or a KID as papers report them.

mod clip;
mod features;
mod frechet;
pub mod human;
mod interval;
mod kid;
pub mod retrieval;
mod statistics;
mod summary;

pub use clip::Clip;
pub use features::Layout;
pub use frechet::{Frechet, frechet, frechet_distance};
pub use interval::{Interval, wilson};
pub use kid::{Kid, KidOptions, kid};
pub use statistics::Statistics;
pub use summary::Summary;
