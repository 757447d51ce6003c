//! `everstep digest`: the whole logical state in one line.

use super::output::print;
use crate::cli::{Failure, StateArgs};
use crate::examine::Run;

/// Prints the digest of a state, after every byte of its parts was read and compared.
///
/// # Errors
/// As [`Run::checkpoint`].
pub fn run(args: &StateArgs) -> Result<(), Failure> {
    print(&Run::open(&args.run)?.checkpoint(args.step)?.state.to_string())
}
