//! The operator's desk: how commands and faces reach a run, and what its store still tells when nobody answers.

pub mod client;
pub(crate) mod dry_run;
pub mod eye;
mod members;
pub mod remembered;
pub mod watch;
