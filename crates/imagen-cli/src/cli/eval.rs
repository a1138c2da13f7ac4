//! `imagen eval`: how good pictures are, in numbers. One subverb is one file in `eval/`.
//!
//! `drawbench` draws what `human` shows to raters. `stats`, `fid`, `kid` and `precision-recall` look at pictures that are
//! there (the last three through `comparison`), `clip-score` and `retrieval` at pictures with captions (through `captioned`);
//! all but `stats` draw first with `--samples`, as `recovery`, `sweep`, `coco`, and `compose` and `shapes` (through
//! `forced_choice`) always do. What is measured is in the library's `eval`; here pictures are fetched, drawn, and the numbers
//! are put into words with everything that they depend on.

mod captioned;
mod clip_score;
mod coco;
mod comparison;
mod compose;
mod concepts;
mod distances;
mod drawbench;
mod drawing;
mod features;
mod fid;
mod finding;
mod forced_choice;
mod genders;
pub(super) mod human;
mod imports;
mod kid;
mod manifest;
mod pictures;
mod precision_recall;
mod reading;
mod recovery;
mod retrieval;
mod samples;
mod shapes;
mod stats;
pub(super) mod sweep;

verbs! {
    /// Measure pictures: distances between sets, whether the model draws the right thing, and what people say
    ///
    /// Distances are FID and KID as papers report them with the weights of Inception-v3 (`--inception FILE`, which
    /// tools/inception_weights.py makes). Without them the features are the built-in `layout-1` (colours and edges by
    /// place), and no number is called an FID.
    Eval {
        ClipScore(clip_score::ClipScore),
        Coco(coco::Coco),
        Compose(compose::Compose),
        Drawbench(drawbench::DrawBench),
        Fid(fid::Fid),
        Human(human::Human),
        Kid(kid::Kid),
        PrecisionRecall(precision_recall::PrecisionRecall),
        Recovery(recovery::Recovery),
        Retrieval(retrieval::Retrieval),
        Shapes(shapes::Shapes),
        Stats(stats::Stats),
        Sweep(sweep::Sweep),
    }
}
