//! `everstep explain`: what fields mean. It needs no run.

use std::io::Write;

use serde_json::json;

use crate::cli::explain::ExplainArgs;
use crate::cli::{ExitCode, Failure};
use crate::judge::SCHEMA_VERSION;
use crate::judge::layout::{Shapes, shaped};
use crate::views::explain;

/// Writes what a field or a kind means.
///
/// # Errors
/// Nothing is called so ([`ExitCode::NotFound`]), or stdout takes no more.
pub fn run(args: &ExplainArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let text = explain::explain(&args.field)?;
    let whole = json!({ "schema_version": SCHEMA_VERSION, "about": args.field, "text": text });
    let (text, parts) = (text.lines().map(str::to_owned).collect(), std::slice::from_ref(&whole));
    shaped(out, args.form.output(), Shapes { text, whole: &whole, parts, names: vec![args.field.clone()] })?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::desk::Form;

    #[test]
    fn what_is_known_is_written_and_what_is_not_is_refused() {
        let mut out = Vec::new();
        assert_eq!(run(&ExplainArgs { field: "actor.depth".into(), form: Form::default() }, &mut out), Ok(ExitCode::Done));
        assert!(out.starts_with(b"actor.depth  <integer>"));
        assert_eq!(run(&ExplainArgs { field: "pods".into(), form: Form::default() }, &mut out).unwrap_err().code, ExitCode::NotFound);
    }
}
