//! `everstep data`: make images, or say what a source holds.

mod inspect;
mod make;

use std::num::NonZeroUsize;

pub use inspect::{Attributes, Inspection, LOOKED_AT_MAX, Sizes, inspect};
pub use make::{contact_sheet_path, make};

use super::output::{print, print_json};
use crate::cli::{DataCommand, Failure};
use crate::examine::open_source;

/// Makes or inspects, and prints.
///
/// # Errors
/// As [`make()`] and [`open_source`].
pub fn run(command: &DataCommand) -> Result<(), Failure> {
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    match command {
        DataCommand::Make(args) => print(&make(args, threads)?),
        DataCommand::Inspect { path, json } => {
            let inspection = inspect(open_source(path)?.as_ref(), threads);
            if *json { print_json(&inspection) } else { print(&inspection.text()) }
        }
    }
}
