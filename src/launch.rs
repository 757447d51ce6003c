//! `everstep train`: starts the run's nodes on this machine, watches them, shows what happens, and
//! says at the end what was learned.
//!
//! The launcher computes nothing of the run. It is the first to see a process of its own die and
//! tells the others at once; and it examines published checkpoints, beside the training.

mod child;
mod examiner;
pub mod node;
mod prepare;
pub mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;

use everstep_actors::clock::wall_ms;
use everstep_actors::event::{Event, Recorded};
use everstep_actors::protocol::ids::{NodeId, Step};
use everstep_actors::store::Store;
use tokio::sync::mpsc;

use self::child::{Child, FromChild};
use self::examiner::Examiner;
use self::prepare::Prepared;
use self::wire::{Briefing, Word};
use crate::cli::{ExitCode, Failure, TrainArgs};
use crate::report::progress::{Line, Progress};
use crate::report::summary::Summary;
use crate::report::terminal::Terminal;
use crate::report::{curves, names};

/// Lines from nodes that wait to be shown at most.
const LINES_MAX: usize = 16_384;

/// Trains, from the beginning or from the newest checkpoint.
///
/// # Errors
/// One sentence with the exit code that says whether to start again.
pub fn train(args: &TrainArgs) -> Result<ExitCode, Failure> {
    let style = Terminal::style(args.json);
    let talk = |text: String| Terminal::new(style, 0).show(&Line::Talk(text));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(ExitCode::Internal, format!("no threads can be started: {error}")))?;
    let prepared = prepare::prepare(args, &runtime, &talk)?;
    let ended = runtime.block_on(async { Launcher::start(prepared, style)?.run().await });
    runtime.shutdown_background();
    ended
}

/// A run, as its launcher sees it.
struct Launcher {
    prepared: Prepared,
    terminal: Terminal,
    progress: Progress,
    /// Everything that happened to the run, earlier sessions' events included.
    history: Vec<Recorded>,
    /// Events that only the launcher knows.
    own: Vec<Recorded>,
    children: BTreeMap<u32, Child>,
    lines: mpsc::Receiver<FromChild>,
    examiner: Option<Examiner>,
    /// The checkpoint that was given to the examiner last.
    examined: Step,
    bad: BTreeMap<u64, String>,
    /// The first word on how the run ended.
    ended: Option<(String, String)>,
    /// The first process that died by itself, and how.
    dead: Option<String>,
    failure: Option<Failure>,
    json: bool,
}

impl Launcher {
    fn start(prepared: Prepared, style: crate::report::progress::Style) -> Result<Self, Failure> {
        let progress = Progress::new(style, prepared.steps, prepared.recipe.model.prototypes);
        let terminal = Terminal::new(style, prepared.steps);
        let (into, lines) = mpsc::channel(LINES_MAX);
        let history = prepared.history.clone();
        let examiner = Examiner::start(&prepared)?;
        let mut children = BTreeMap::new();
        for slot in 0..prepared.recipe.cluster.ranks {
            let briefing = Briefing {
                recipe: prepared.resolved.clone(),
                run: prepared.run.clone(),
                secrets: prepared.secrets.display().to_string(),
                cache: prepared.cache.as_ref().map(|cache| cache.display().to_string()),
                steps: prepared.steps,
                slot,
                host: prepared.host.clone(),
            };
            children.insert(slot, Child::spawn(slot, &briefing, into.clone())?);
        }
        Ok(Self {
            json: style == crate::report::progress::Style::Json,
            prepared,
            terminal,
            progress,
            history,
            own: Vec::new(),
            children,
            lines,
            examiner,
            examined: Step(0),
            bad: BTreeMap::new(),
            ended: None,
            dead: None,
            failure: None,
        })
    }

    async fn run(mut self) -> Result<ExitCode, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let cannot = |error: std::io::Error| Failure::new(ExitCode::Internal, format!("signals cannot be handled: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut asked = 0;
        while !self.children.is_empty() {
            tokio::select! {
                biased;
                _ = interrupt.recv() => { asked += 1; self.stop(asked, "stopped by Ctrl-C").await; }
                _ = terminate.recv() => { asked += 1; self.stop(asked, "stopped by SIGTERM").await; }
                Some(line) = self.lines.recv() => self.on_line(line).await,
                Some(event) = examined(&mut self.examiner) => self.own_event(event),
            }
        }
        self.finish().await
    }

    /// The first request ends the run in good order, the second at once.
    async fn stop(&mut self, asked: u32, because: &str) {
        if asked == 1 {
            self.talk(format!("{because}: finishing the step and writing a checkpoint (again to end at once)"));
            self.tell_all(&Word::Stop { because: because.into() }).await;
        } else {
            for child in self.children.values_mut() {
                child.kill();
            }
        }
    }

    async fn tell_all(&mut self, word: &Word) {
        for child in self.children.values_mut() {
            child.tell(word).await;
        }
    }

    async fn on_line(&mut self, line: FromChild) {
        match line {
            FromChild::Event(recorded) => self.on_event(*recorded).await,
            FromChild::Talk { slot, line } => self.on_talk(slot, line),
            FromChild::Exited { slot, status } => self.on_exit(slot, status).await,
        }
    }

    async fn on_event(&mut self, recorded: Recorded) {
        match &recorded.event {
            Event::Ended { outcome, because, .. } => {
                if self.ended.is_none() {
                    self.ended = Some((outcome.clone(), because.clone()));
                    self.history.push(recorded);
                }
                return;
            }
            Event::SampleReplaced { sample, .. } => {
                let line = serde_json::to_string(&recorded.event).unwrap_or_default();
                if self.bad.insert(*sample, line).is_some() {
                    return;
                }
                self.save_bad().await;
            }
            // Every node tells of epochs, checkpoints and losses; one telling is enough.
            Event::EpochBegan { .. } | Event::CheckpointSaved { .. } | Event::CheckpointFailed { .. } | Event::NodeLost { .. } => {
                if self.history.iter().rev().take(64).any(|earlier| earlier.event == recorded.event) {
                    return;
                }
            }
            Event::StepCommitted { .. } | Event::Waiting { .. } | Event::Evaluated { .. } => {}
        }
        if let Event::CheckpointSaved { step, .. } = recorded.event {
            self.examine(step);
        }
        self.show(recorded);
    }

    /// Has a checkpoint examined, if it is the first one since another `eval.every` steps have gone by.
    fn examine(&mut self, step: Step) {
        // Without such a period neither side is a number.
        let periods = |step: Step| step.0.checked_div(self.prepared.recipe.eval.every);
        let due = step.0 < self.prepared.steps && periods(step) > periods(self.examined);
        if let Some(examiner) = self.examiner.as_ref().filter(|_| due) {
            examiner.examine(step);
            self.examined = step;
        }
    }

    fn show(&mut self, recorded: Recorded) {
        for line in self.progress.on(&recorded) {
            self.terminal.show(&line);
        }
        self.history.push(recorded);
    }

    fn own_event(&mut self, event: Event) {
        let recorded = Recorded { at_ms: wall_ms(), recorded_by: NodeId([0; 16]), event };
        self.own.push(recorded.clone());
        self.show(recorded);
    }

    fn on_talk(&mut self, slot: u32, line: String) {
        // A node that cannot start says so in one sentence; the first one is the run's.
        if let Some(sentence) = line.strip_prefix("error: ") {
            if self.failure.is_none() {
                self.failure = Some(Failure::new(ExitCode::Failed, sentence));
            }
        } else {
            self.talk(format!("rank process {slot}: {line}"));
        }
    }

    async fn on_exit(&mut self, slot: u32, status: std::process::ExitStatus) {
        let Some(child) = self.children.remove(&slot) else { return };
        let how = child::how(status);
        match ExitCode::of(status.code()) {
            Some(ExitCode::Done | ExitCode::TryAgain) => {}
            Some(code) => {
                if let Some(failure) = &mut self.failure {
                    failure.code = code;
                }
            }
            None => {
                self.dead.get_or_insert_with(|| format!("rank process {slot} (pid {}) {how}", child.pid()));
            }
        }
        if !status.success() {
            self.tell_all(&Word::Died { pid: child.pid(), because: format!("its process {how}") }).await;
        }
    }

    // ---- the end ------------------------------------------------------------------------------

    async fn finish(mut self) -> Result<ExitCode, Failure> {
        if let Some(examiner) = self.examiner.take() {
            let last =
                self.committed().filter(|_| self.ended.as_ref().is_some_and(|(outcome, _)| outcome == "done" || outcome == "stopped"));
            if let Some(step) = last {
                let rest = if step.0 >= self.prepared.steps { ", at random init, raw pixels, colour histogram" } else { "" };
                self.talk(format!("examining the trunk: trained{rest}"));
            }
            for event in examiner.finish(last).await {
                self.own_event(event);
            }
        }
        self.terminal.finish();
        self.save_events().await;
        let curves = self.save_curves().await;
        let recipe = &self.prepared.recipe;
        let checkpoints = self.prepared.store.at("checkpoints");
        let summary = Summary::new(&self.prepared.run, recipe.model.prototypes, &checkpoints, curves.as_deref(), &self.history);
        let text = if self.json { summary.json().ok() } else { Some(summary.text().trim_end().to_owned()) };
        self.terminal.show(&Line::Data(text.unwrap_or_default()));
        self.ending()
    }

    fn ending(self) -> Result<ExitCode, Failure> {
        let resume = "the same command resumes it from its newest checkpoint";
        match (self.ended, self.failure, self.dead) {
            (_, Some(failure), _) if failure.code != ExitCode::TryAgain => Err(failure),
            (Some((outcome, because)), _, _) if outcome == "unusable" => Err(Failure::new(ExitCode::Config, because)),
            (Some((outcome, because)), _, _) if outcome == "failed" => {
                Err(Failure::new(ExitCode::TryAgain, format!("the run ended: {because}; {resume}")))
            }
            (_, _, Some(dead)) => Err(Failure::new(ExitCode::TryAgain, format!("the run ended: {dead}; {resume}"))),
            (Some(_), _, None) => Ok(ExitCode::Done),
            (None, _, None) => Err(Failure::new(ExitCode::TryAgain, format!("the run's nodes ended without a word; {resume}"))),
        }
    }

    /// Steps committed, if any, as of the last event.
    fn committed(&self) -> Option<Step> {
        self.history.iter().rev().find_map(|recorded| match recorded.event {
            Event::CheckpointSaved { step, .. } => Some(step),
            _ => None,
        })
    }

    fn talk(&self, text: String) {
        self.terminal.show(&Line::Talk(text));
    }

    async fn put(&self, key: &str, body: String) -> Option<String> {
        let store: &Store = &self.prepared.store;
        match store.put(key, bytes::Bytes::from(body)).await {
            Ok(()) => Some(store.at(key)),
            Err(error) => {
                self.talk(format!("{error}"));
                None
            }
        }
    }

    async fn save_bad(&self) {
        let lines: Vec<&str> = self.bad.values().map(String::as_str).collect();
        self.put("bad-samples.jsonl", lines.join("\n") + "\n").await;
    }

    async fn save_events(&self) {
        let lines: Vec<String> = self.own.iter().filter_map(|event| serde_json::to_string(event).ok()).collect();
        if !lines.is_empty() {
            self.put(&format!("events/launcher-{}-{}.jsonl", std::process::id(), wall_ms()), lines.join("\n") + "\n").await;
        }
    }

    async fn save_curves(&self) -> Option<String> {
        let svg = curves::svg(&self.prepared.run, self.prepared.steps, self.prepared.recipe.model.prototypes, &self.history);
        self.put("curves.svg", svg).await
    }
}

async fn examined(examiner: &mut Option<Examiner>) -> Option<Event> {
    match examiner {
        Some(examiner) => examiner.next().await,
        None => None,
    }
}

/// Where a run keeps its certificate authority: within a folder, or where the user says.
///
/// # Errors
/// A bucket without a place for secrets.
pub fn secrets(run: &str, secrets: Option<&str>) -> Result<PathBuf, Failure> {
    match secrets {
        Some(place) if !place.contains("://") => Ok(place.into()),
        None if !run.contains("://") => Ok(PathBuf::from(run).join("secrets")),
        _ => Err(Failure::new(
            ExitCode::Config,
            format!("{run} is no folder, so the run's certificate authority cannot be kept in it: name a folder for it with --secrets"),
        )),
    }
}

/// Names of the scores that a run ends with.
pub const SCORES: [&str; 4] = [names::KNN, names::KNN_RANDOM, names::KNN_PIXELS, names::KNN_COLOURS];
