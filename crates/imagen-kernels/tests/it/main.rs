//! Every kernel against its naive twin: the obvious loop in f64, over random shapes, forward and backward, on every
//! instruction set that the machine has.

mod adafactor;
mod attention;
mod bf16;
mod biased_attention;
mod conv;
mod elementwise;
mod linear;
mod norm;
mod quantile;
mod resample;
mod stored;
mod support;
mod threads;
