//! `everstep explain`: what fields mean. It needs no run.

use std::io::Write;

use crate::cli::explain::ExplainArgs;
use crate::cli::{ExitCode, Failure};
use crate::views::explain;
use crate::views::talk::put;

/// Writes what a field or a kind means.
///
/// # Errors
/// Nothing is called so ([`ExitCode::NotFound`]), or stdout takes no more.
pub fn run(args: &ExplainArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    put(out, &explain::explain(&args.field)?)?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_written_and_what_is_not_is_refused() {
        let mut out = Vec::new();
        assert_eq!(run(&ExplainArgs { field: "actor.depth".into() }, &mut out), Ok(ExitCode::Done));
        assert!(out.starts_with(b"actor.depth  <integer>"));
        assert_eq!(run(&ExplainArgs { field: "pods".into() }, &mut out).unwrap_err().code, ExitCode::NotFound);
    }
}
