//! The same command again and again: drawn anew on a terminal, one block a change on a pipe.

use std::future::Future;
use std::io::{self, ErrorKind, IsTerminal as _, Write as _};
use std::pin::pin;
use std::time::Duration;

use crate::cli::{ExitCode, Failure};

/// How often a watched command looks.
pub const EVERY: Duration = Duration::from_secs(1);
/// Cursor home, then everything after it gone: no flicker, nothing scrolls.
const REDRAW: &str = "\x1b[H\x1b[J";

/// Runs a command once, or until Ctrl-C. It writes into the buffer that it is given.
///
/// # Errors
/// Those of the command; when it is watched, only those of the first time.
pub async fn run<F>(watched: bool, command: impl Fn() -> F) -> Result<ExitCode, Failure>
where
    F: Future<Output = (Vec<u8>, Result<ExitCode, Failure>)>,
{
    let (text, result) = command().await;
    if !watched {
        write(&text)?;
        return result;
    }
    let terminal = io::stdout().is_terminal();
    if terminal {
        write(REDRAW.as_bytes())?;
    }
    write(&text)?;
    let mut code = result?;
    let mut shown = text;
    let mut turn = tokio::time::interval(EVERY);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    turn.tick().await;
    // One listener for all turns: a Ctrl-C that comes while nobody listens would be lost.
    let mut interrupted = pin!(tokio::signal::ctrl_c());
    loop {
        let look = async {
            turn.tick().await;
            command().await
        };
        let (text, result) = tokio::select! {
            looked = look => looked,
            _ = &mut interrupted => return Ok(code),
        };
        match result {
            Ok(newer) => code = newer,
            Err(failure) => {
                write_error(&failure.to_string());
                continue;
            }
        }
        let read = match terminal {
            true => write(REDRAW.as_bytes())? && write(&text)?,
            false => text == shown || write(&text)?,
        };
        if !read {
            return Ok(code);
        }
        shown = text;
    }
}

/// Talk goes to stderr, which may be closed.
fn write_error(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Whether somebody still reads: a closed pipe is no failure.
fn write(text: &[u8]) -> Result<bool, Failure> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(ExitCode::Failed, format!("stdout cannot be written ({error}); free space or direct it elsewhere"))),
        Ok(()) => Ok(true),
    }
}
