//! The program: parses the command line, runs the command, ends with one sentence and an exit code.

use std::io::Write as _;
use std::process::ExitCode as ProcessCode;

use clap::Parser as _;
use everstep::cli::{Cli, ExitCode, Failure};
use everstep::{commands, log};

fn main() -> ProcessCode {
    let cli = Cli::parse();
    log::start(cli.log_format);
    let ended: Result<ExitCode, Failure> = commands::run(cli.command);
    match ended {
        Ok(code) => code.into(),
        Err(failure) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.code.into()
        }
    }
}
