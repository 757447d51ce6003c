//! The program: parses the command line, runs the command, ends with one sentence and an exit code.

use std::io::Write;
use std::process::ExitCode as ProcessCode;

use clap::Parser;
use everstep::cli::{Cli, Command, ExitCode, Failure};
use everstep::{launch, status};

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
        Command::Train(args) => launch::train(&args),
        Command::Node => launch::node::run(),
        Command::Status(args) => {
            let secrets = launch::secrets(&args.run, args.secrets.as_deref())?;
            let (view, live) = status::view(&args, &secrets)?;
            let text = if args.json { view.json().map(|json| json + "\n").unwrap_or_default() } else { view.text() };
            // A closed pipe ends the output, not the command.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(if live || view.step >= view.steps && view.steps > 0 { ExitCode::Done } else { ExitCode::Unreachable })
        }
        _ => Err(Failure::new(ExitCode::Internal, "x")),
    }
}
