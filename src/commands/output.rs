//! Where commands write.

use std::io::{self, ErrorKind, Write as _};

use serde::Serialize;

use crate::cli::{ExitCode, Failure};

/// Writes text and a line break to stdout. A closed pipe ends the output, not the command.
///
/// # Errors
/// [`ExitCode::Failed`] when stdout takes no more for another reason, for instance a full disk.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{}", text.trim_end()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(ExitCode::Failed, format!("stdout cannot be written ({error}); free space or direct it elsewhere")))
        }
        _ => Ok(()),
    }
}

/// Writes one JSON object in one line to stdout.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::new(ExitCode::Internal, format!("no JSON can be made: {error}")))?;
    print(&text)
}
