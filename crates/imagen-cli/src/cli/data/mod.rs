//! `imagen data`: a set of pictures and captions before hours are spent on it. `shapes` makes a small one to begin with,
//! `compose` writes pictures of a world, `check` looks for trouble, `stats` describes, `encode` computes the embeddings of the captions.

mod check;
mod compose;
mod encode;
mod looked;
mod shapes;
mod spread;
mod stats;

verbs! {
    /// Make, check, describe or encode a set of pictures and captions
    Data {
        Shapes(shapes::Shapes),
        Compose(compose::Compose),
        Check(check::Check),
        Stats(stats::Stats),
        Encode(encode::Encode),
    }
}
