//! `everstep schema`: the JSON schemas of everything that is asked and answered. It needs no run.

use std::io::Write;

use crate::cli::{ExitCode, Failure};
use crate::views::explain::schema;
use crate::views::talk::put;

/// Writes one object with the schemas of `view`, `question`, `answer` and `order`.
///
/// # Errors
/// Stdout takes no more.
pub fn run(out: &mut dyn Write) -> Result<ExitCode, Failure> {
    put(out, &schema())?;
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_json() {
        let mut out = Vec::new();
        assert_eq!(run(&mut out), Ok(ExitCode::Done));
        assert!(serde_json::from_slice::<serde_json::Value>(&out).unwrap()["view"].is_object());
    }
}
