//! `everstep chaos`: breaks clusters on purpose and says whether everything that must hold has held.

use std::io::Write;
use std::path::Path;

use everstep_chaos::command::{self, Swarm};
use everstep_chaos::error::ChaosError;
use everstep_chaos::report::Report;

use crate::cli::{ChaosCommand, ExitCode, Failure};

/// How many seeds lie between two lines of progress.
const TOLD_EVERY: u64 = 100;

/// Plays what the command says and writes the report.
///
/// # Errors
/// The plan cannot be used, or the report not be written. A check that does not hold is no error here but exit code 5.
pub fn run(command: &ChaosCommand) -> Result<ExitCode, Failure> {
    match command {
        ChaosCommand::Run { plan, seed, tier, out } => told(command::run(plan, *seed, *tier, out)),
        ChaosCommand::Replay { file, out } => told(command::replay(file, out)),
        ChaosCommand::Shrink { plan, seed, tier, out } => {
            let report = command::shrink(plan, *seed, *tier, out).map_err(failure)?;
            say(&report)?;
            // It was asked for because it fails.
            Ok(ExitCode::Done)
        }
        ChaosCommand::Sim { ranks, seeds, first, out } => drawn(*seeds, *first, Some(*ranks), out),
        ChaosCommand::Swarm { seeds, first, out } => drawn(*seeds, *first, None, out),
    }
}

fn told(report: Result<Report, ChaosError>) -> Result<ExitCode, Failure> {
    let report = report.map_err(failure)?;
    say(&report)?;
    Ok(if report.holds() { ExitCode::Done } else { ExitCode::Unhealthy })
}

fn drawn(seeds: u64, first: u64, ranks: Option<u32>, out: &Path) -> Result<ExitCode, Failure> {
    let swarm: Swarm = command::swarm(seeds, first, ranks, out, |seed, played| {
        let done = seed - first + 1;
        if done.is_multiple_of(TOLD_EVERY) || played.wall.as_secs() > 0 {
            let line = format!("seed {seed}: {done} of {seeds} played, this one in {:.2} s", played.wall.as_secs_f64());
            // A closed pipe ends the telling, not the storm.
            let _ = writeln!(std::io::stderr().lock(), "{line}");
        }
    })
    .map_err(failure)?;
    say(&swarm)?;
    Ok(if swarm.holds() { ExitCode::Done } else { ExitCode::Unhealthy })
}

fn say(what: &impl std::fmt::Display) -> Result<(), Failure> {
    writeln!(std::io::stdout().lock(), "{what}")
        .map_err(|error| Failure::new(ExitCode::Failed, format!("standard output is closed: {error}")))
}

fn failure(error: ChaosError) -> Failure {
    let code = match error {
        ChaosError::Scenario(_) => ExitCode::Config,
        ChaosError::Unread { .. } => ExitCode::NotFound,
        ChaosError::Unplayed { .. } | ChaosError::Unwritten { .. } | ChaosError::Holds { .. } => ExitCode::Failed,
    };
    Failure::new(code, error)
}
