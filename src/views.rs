//! A [`View`](everstep_actors::desk::view::View) as text: tables, descriptions, trees, the one-screen status.
//!
//! Everything here is a pure function of a view, so that every face shows the same; only [`talk::say`] writes.

pub mod describe;
pub mod explain;
pub(crate) mod fields;
pub(crate) mod grid;
pub(crate) mod human;
pub mod output;
#[cfg(test)]
pub(crate) mod sample;
pub mod select;
pub mod status;
pub mod talk;
#[cfg(test)]
mod tests;
pub mod tree;
