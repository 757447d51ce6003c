//! The law: what is decided. No I/O, no clock, no randomness of its own; facts come in, effects go out.

pub mod ids;
pub mod tree;
