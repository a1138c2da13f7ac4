//! What goes over the wire: twins of the library's types, so that neither changes the other.

mod job;
mod model;
mod order;
mod remark;

pub(crate) use job::{JobView, PictureView, State};
pub(crate) use model::{ModelView, StageView};
pub(crate) use order::{Order, StageOrder};
pub(crate) use remark::RemarkView;
