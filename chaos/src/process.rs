//! The process tier: the program itself, with the workload that people train, on hosts that are network namespaces where this
//! machine allows them and plain processes otherwise.
//!
//! In the end the state has the digest of a run in which nothing failed, and the program's own audit finds nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::checks::{self, Check, Violation};
use crate::history::{Happening, Promise};
use crate::scenario::{Scenario, ScenarioError};
use crate::tier::checks_of;
use crate::{sim, stage as tier};

mod disk;
mod drowsy;
mod launcher;
mod namespace;
mod relay;
mod stage;
mod stall;
mod starve;
mod switch;
mod wedge;

/// The recipe's file in the folder of the play.
const RECIPE: &str = "recipe.toml";
/// Memory that a process may take on, in kB, beyond half of what it had when it had settled.
const MEMORY_MORE: u64 = 32_768;
/// Files that a process may open beyond those that it had: links to nodes that come and go.
const FILES_MORE: u64 = 24;

/// The program under test and the folder in which it runs.
#[derive(Debug)]
struct Program {
    binary: PathBuf,
    folder: PathBuf,
}

impl Program {
    fn settings(&self, scenario: &Scenario) -> Vec<String> {
        let work = &scenario.workload;
        vec![
            format!("run.steps={}", work.steps),
            format!("batch.lanes={}", work.lanes),
            format!("batch.images_per_lane={}", work.samples_per_lane),
            format!("checkpoint.every={}", work.checkpoint_every),
        ]
    }

    /// Runs the program to its end.
    fn run(&self, arguments: &[&str]) -> Result<Output, String> {
        let output = Command::new(&self.binary).args(arguments).current_dir(&self.folder).stdin(Stdio::null()).output();
        output.map_err(|error| format!("{}: {error}; build it with `cargo build --release`", self.binary.display()))
    }

    /// A run of the same recipe in which nothing fails; its folder. Made once.
    fn undisturbed(&self, scenario: &Scenario) -> Result<PathBuf, String> {
        let work = &scenario.workload;
        let name = format!("undisturbed-{}-{}x{}-{}", work.steps, work.lanes, work.samples_per_lane, work.checkpoint_every);
        let run = self.folder.join(&name);
        let done = self.folder.join(format!("{name}.done"));
        if done.exists() {
            return Ok(run);
        }
        let settings = self.settings(scenario);
        let mut arguments = vec!["train", RECIPE, "--run", &name, "--ranks", "1", "--json", "--set", "checkpoint.keep=10000"];
        settings.iter().for_each(|set| arguments.extend(["--set", set]));
        let ran = self.run(&arguments)?;
        if !ran.status.success() {
            return Err(format!("a run in which nothing fails ended with {}: {}", ran.status, String::from_utf8_lossy(&ran.stderr)));
        }
        std::fs::write(&done, "").map_err(|error| format!("{}: {error}", done.display()))?;
        Ok(run)
    }

    fn digest(&self, run: &Path, step: Option<u64>) -> Result<String, String> {
        let (run, step) = (run.display().to_string(), step.map(|step| step.to_string()));
        let mut arguments = vec!["digest", "--run", &run];
        step.iter().for_each(|step| arguments.extend(["--step", step]));
        let ran = self.run(&arguments)?;
        if ran.status.success() {
            return Ok(String::from_utf8_lossy(&ran.stdout).trim().into());
        }
        Err(format!("the state cannot be read: {}", String::from_utf8_lossy(&ran.stderr).trim()))
    }

    /// Steps committed in the newest checkpoint.
    fn saved(run: &Path) -> Option<u64> {
        let entries = std::fs::read_dir(run.join("checkpoints")).ok()?;
        let steps = entries.filter_map(|entry| {
            let folder = entry.ok()?.path();
            folder.join("manifest.json").exists().then(|| folder.file_name()?.to_str()?.parse::<u64>().ok())?
        });
        steps.max()
    }
}

/// Plays a scenario with processes of `binary` in `folder`, which may be used again for other scenarios.
///
/// # Errors
/// The scenario asks for a fault that cannot be had here, or the program cannot be run.
pub fn play(scenario: &Scenario, seed: u64, binary: &Path, folder: &Path) -> Result<sim::Run, ScenarioError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let failed = |because: String| ScenarioError::Malformed(because);
    let absolute = |path: &Path| std::path::absolute(path).map_err(|error| failed(format!("{}: {error}", path.display())));
    std::fs::create_dir_all(folder).map_err(|error| failed(format!("{}: {error}", folder.display())))?;
    let program = Program { binary: absolute(binary)?, folder: absolute(folder)? };
    std::fs::write(program.folder.join(RECIPE), include_str!("process/recipe.toml")).map_err(|error| failed(error.to_string()))?;
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let run = program.folder.join(format!("run-{}-{number}", std::process::id()));
    let network = namespace::Network::new(number);
    let mut processes = stage::Processes::new(scenario, &program, run.clone(), network).map_err(failed)?;
    tier::check(scenario, &processes)?;
    let undisturbed = program.undisturbed(scenario).map_err(failed)?;
    let played = tier::play(scenario, seed, &mut processes)?;
    let tier::Played { mut history, struck, took, done, .. } = played;
    for (pid, first, last) in processes.settled() {
        let sizes = [("memory in kB", first.0 * 3 / 2 + MEMORY_MORE, last.0), ("open files", first.1 + FILES_MORE, last.1)];
        for (of, bound, is) in sizes {
            history.push(took, pid, Happening::Size { of: of.into(), is, bound });
        }
    }
    let promise = Promise::of(scenario, BTreeMap::new());
    let mut violations = checks::run(&checks_of(scenario), &history, &promise);
    let place = history.entries.len().saturating_sub(1);
    let mut complain = |check: Check, because: String| violations.push(Violation { check, place, because });
    processes.ends.drain(..).for_each(|because| complain(Check::Heals, because));
    if let Err(because) = same_state(&program, &run, &undisturbed) {
        complain(Check::SameBits, because);
    }
    let audit = program.run(&["audit", "--run", &run.display().to_string()]).map_err(failed)?;
    if !audit.status.success() {
        complain(Check::SamplesOnce, format!("the audit complains: {}", String::from_utf8_lossy(&audit.stdout)));
    }
    drop(processes);
    if violations.is_empty() {
        // What failed stays for people to look at.
        let _ = std::fs::remove_dir_all(&run);
    }
    let events = history.entries.len() as u64;
    Ok(sim::Run { history, promise, violations, trace: 0, events, struck, took, done, standing: Vec::new() })
}

/// Whether the newest state of a run is that of the undisturbed one after as many steps.
fn same_state(program: &Program, run: &Path, undisturbed: &Path) -> Result<(), String> {
    let Some(step) = Program::saved(run) else { return Err("the run has saved nothing".into()) };
    let (is, should) = (program.digest(run, Some(step))?, program.digest(undisturbed, Some(step))?);
    if is == should { Ok(()) } else { Err(format!("the state after {step} steps is {is} and should be {should}")) }
}
