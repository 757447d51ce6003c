//! The program: parses the command line, runs the command, ends with one sentence and an exit code.

use std::io::Write as _;
use std::process::ExitCode as ProcessCode;

use clap::Parser as _;
use everstep::cli::{Cli, Command, ExitCode, Failure};
use everstep::commands;

fn main() -> ProcessCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::Done.into(),
        Err(failure) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.code.into()
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Eval(command) => commands::eval::run(&command),
        Command::Export(args) => commands::export::run(&args),
        Command::Digest(args) => commands::digest::run(&args),
        Command::Checkpoint(command) => commands::checkpoint::run(&command),
        Command::Data(command) => commands::data::run(&command),
        Command::Train(_) | Command::Node(_) | Command::Status(_) => Err(Failure::new(ExitCode::Internal, "not part of this build")),
    }
}
