//! The program: parses the command line, runs the command, ends with one sentence and an exit code.

use std::io::Write as _;
use std::process::ExitCode as ProcessCode;

use clap::Parser as _;
use everstep::cli::{Cli, Command, ExitCode, Failure};
use everstep::{commands, launch};

fn main() -> ProcessCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "warn".into()))
        .with_writer(std::io::stderr)
        .with_target(false)
        .without_time()
        .init();
    match run(Cli::parse()) {
        Ok(code) => code.into(),
        Err(failure) => {
            // Standard error may be closed; the exit code still tells.
            let _ = writeln!(std::io::stderr(), "{failure}");
            failure.code.into()
        }
    }
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    match cli.command {
        Command::Train(args) => return launch::train(&args),
        Command::Plan(args) => commands::plan::run(&args)?,
        Command::Node => return launch::node::run(),
        Command::Status(args) => return commands::status::run(&args),
        Command::Audit(args) => return commands::audit::run(&args),
        Command::Chaos(command) => return commands::chaos::run(&command),
        Command::Drain(args) => commands::drain::drain(&args)?,
        Command::Undrain(args) => commands::drain::undrain(&args)?,
        Command::Fork(args) => commands::fork::run(&args)?,
        Command::Eval(command) => commands::eval::run(&command)?,
        Command::Export(args) => commands::export::run(&args)?,
        Command::Digest(args) => commands::digest::run(&args)?,
        Command::Checkpoint(command) => commands::checkpoint::run(&command)?,
        Command::Data(command) => commands::data::run(&command)?,
    }
    Ok(ExitCode::Done)
}
