//! `everstep train`: starts the run's nodes on this machine, watches them, shows what happens, and
//! says at the end what was learned.
//!
//! The launcher computes nothing of the run. It is the first to see a process of its own die, tells the others at once and
//! starts it anew; it hears that this machine is about to be taken away; and it examines published checkpoints, beside the training.

mod child;
mod examiner;
mod logbook;
pub mod node;
mod prepare;
mod restart;
pub mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;

use everstep_actors::clock::wall_ms;
use everstep_actors::event::{Event, Recorded};
use everstep_actors::protocol::ids::{Epoch, NodeId, Step};
use everstep_actors::store::Store;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::child::{Child, FromChild};
use self::examiner::Examiner;
use self::logbook::Logbook;
use self::prepare::Prepared;
use self::restart::Restarts;
use self::wire::{Briefing, Word};
use crate::cli::{ExitCode, Failure, TrainArgs};
use crate::notice::{self, Notice};
use crate::report::progress::{Line, Progress};
use crate::report::summary::Summary;
use crate::report::terminal::Terminal;
use crate::report::{curves, names};

/// How often what nodes said is written into the run.
const LOGS_EVERY: std::time::Duration = std::time::Duration::from_secs(2);
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
    /// Ranks whose process died, and when they are started anew.
    resting: BTreeMap<u32, Instant>,
    restarts: BTreeMap<u32, Restarts>,
    /// The last commit that was shown, and the commits that were when each process was started.
    newest: Option<(Epoch, Step)>,
    commits: u64,
    commits_at_start: BTreeMap<u32, u64>,
    /// How often each rank's process was started.
    starts: BTreeMap<u32, u32>,
    logbook: Logbook,
    saving: Option<tokio::task::JoinHandle<()>>,
    /// Where events that only the launcher knows are written.
    events_key: String,
    notices: mpsc::Receiver<Notice>,
    into: mpsc::Sender<FromChild>,
    lines: mpsc::Receiver<FromChild>,
    examiner: Option<Examiner>,
    /// The checkpoint that was given to the examiner last.
    examined: Step,
    bad: BTreeMap<u64, String>,
    /// How the run ended for a process, the word that says most about the run.
    ended: Option<(String, String)>,
    /// Whether this machine was asked to leave or stop.
    leaving: bool,
    /// Whether a notice says that this machine is about to be taken away.
    noticed: bool,
    /// The first process that died by itself, and how.
    dead: Option<String>,
    failure: Option<Failure>,
    /// Why a process of this machine was not let in.
    turned_away: Option<String>,
    json: bool,
}

impl Launcher {
    fn start(prepared: Prepared, style: crate::report::progress::Style) -> Result<Self, Failure> {
        let progress = Progress::new(style, prepared.steps, prepared.recipe.model.prototypes);
        let terminal = Terminal::new(style, prepared.steps);
        let (into, lines) = mpsc::channel(LINES_MAX);
        let mut prepared = prepared;
        let history = std::mem::take(&mut prepared.history);
        let examiner = Examiner::start(&prepared)?;
        let notices = notice::watch(&prepared.recipe.preemption);
        let ranks = prepared.recipe.cluster.ranks;
        let logbook = Logbook::new(&prepared.host);
        let mut launcher = Self {
            json: style == crate::report::progress::Style::Json,
            prepared,
            terminal,
            progress,
            history,
            own: Vec::new(),
            children: BTreeMap::new(),
            resting: BTreeMap::new(),
            restarts: BTreeMap::new(),
            newest: None,
            commits: 0,
            commits_at_start: BTreeMap::new(),
            starts: BTreeMap::new(),
            logbook,
            saving: None,
            events_key: format!("events/launcher-{}-{}.jsonl", std::process::id(), wall_ms()),
            notices,
            into,
            lines,
            examiner,
            examined: Step(0),
            bad: BTreeMap::new(),
            ended: None,
            leaving: false,
            noticed: false,
            dead: None,
            failure: None,
            turned_away: None,
        };
        (0..ranks).try_for_each(|slot| launcher.spawn(slot))?;
        Ok(launcher)
    }

    fn spawn(&mut self, slot: u32) -> Result<(), Failure> {
        let prepared = &mut self.prepared;
        let ticket = match &mut prepared.tickets {
            None => None,
            Some(tickets) => match tickets.pop() {
                Some(ticket) => Some(ticket),
                None => {
                    self.talk(format!("rank process {slot} is not started: each start takes a token, and none is left; mint more with `everstep cert token`"));
                    return Ok(());
                }
            },
        };
        let briefing = Briefing {
            recipe: prepared.resolved.clone(),
            run: prepared.run.clone(),
            secrets: prepared.secrets.as_ref().map(|secrets| secrets.display().to_string()).unwrap_or_default(),
            ticket,
            cache: prepared.cache.as_ref().map(|cache| cache.display().to_string()),
            steps: prepared.steps,
            slot,
            restarts: self.starts.get(&slot).copied().unwrap_or_default(),
            host: prepared.host.clone(),
        };
        self.children.insert(slot, Child::spawn(slot, &briefing, self.into.clone())?);
        self.commits_at_start.insert(slot, self.commits);
        *self.starts.entry(slot).or_default() += 1;
        Ok(())
    }

    async fn run(mut self) -> Result<ExitCode, Failure> {
        use tokio::signal::unix::{SignalKind, signal};
        let cannot = |error: std::io::Error| Failure::new(ExitCode::Internal, format!("signals cannot be handled: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let mut asked = 0;
        let mut writing = tokio::time::interval(LOGS_EVERY);
        writing.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.children.is_empty() || !self.resting.is_empty() {
            let rested = self.resting.values().min().copied();
            tokio::select! {
                biased;
                _ = interrupt.recv() => { asked += 1; self.leave(asked, "stopped by Ctrl-C").await; }
                _ = terminate.recv() => { asked += 1; self.leave(asked, "stopped by SIGTERM").await; }
                Some(line) = self.lines.recv() => self.on_line(line).await,
                Some(notice) = self.notices.recv() => self.on_notice(notice).await,
                Some(event) = examined(&mut self.examiner) => {
                    self.own_event(event);
                    self.save_events().await;
                }
                _ = writing.tick() => self.save_logs(),
                () = until(rested), if rested.is_some() => self.start_rested()?,
            }
        }
        self.finish().await
    }

    /// The first request lets this machine leave in good order: its ranks hand over what they hold, or save it where nobody else
    /// is there. The second ends them at once.
    async fn leave(&mut self, asked: u32, because: &str) {
        self.leaving = true;
        self.resting.clear();
        if asked == 1 {
            self.talk(format!("{because}: finishing the step, then handing over or saving what is held (again to end at once)"));
            self.tell_all(&Word::Leave { because: because.into(), deadline_ms: None }).await;
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

    async fn on_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Preempt { source, kind, deadline, because } => {
                let because = format!("{source} says that this machine is about to go ({kind}): {because}");
                self.talk(format!("{because}; leaving the run"));
                (self.leaving, self.noticed) = (true, true);
                self.tell_all(&Word::Leave { because, deadline_ms: deadline.map(|left| left.as_millis() as u64) }).await;
            }
            Notice::Cancelled { source, because } => {
                self.talk(format!("{source} has taken its notice back ({because}); staying in the run"));
                (self.leaving, self.noticed) = (false, false);
                self.tell_all(&Word::Stay).await;
            }
        }
    }

    fn start_rested(&mut self) -> Result<(), Failure> {
        let now = Instant::now();
        let due: Vec<u32> = self.resting.iter().filter(|(_, at)| **at <= now).map(|(slot, _)| *slot).collect();
        for slot in due {
            self.resting.remove(&slot);
            self.spawn(slot)?;
        }
        Ok(())
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
                // Says most about the run: its end, then that this machine has left, then that a rank failed.
                let weight = |outcome: &str| ["failed", "left", "stopped", "unusable", "done"].iter().position(|known| *known == outcome);
                if self.ended.as_ref().is_none_or(|(known, _)| weight(known) < weight(outcome)) {
                    self.ended = Some((outcome.clone(), because.clone()));
                    self.history.retain(|earlier| !matches!(earlier.event, Event::Ended { .. }));
                    self.history.push(recorded);
                }
                if self.is_over() {
                    // A process that was started anew a moment ago knows nothing of it, and would begin where the others have ended.
                    self.resting.clear();
                    self.tell_all(&Word::Leave { because: "the run has ended".into(), deadline_ms: None }).await;
                }
                return;
            }
            // Every member tells of each step; a step that was computed anew belongs to a later epoch.
            Event::StepCommitted { epoch, step, .. } => {
                if self.newest >= Some((*epoch, *step)) {
                    return;
                }
                self.newest = Some((*epoch, *step));
                self.commits += 1;
            }
            Event::SampleReplaced { sample, .. } => {
                let line = serde_json::to_string(&recorded.event).unwrap_or_default();
                if self.bad.insert(*sample, line).is_some() {
                    return;
                }
                self.save_bad().await;
            }
            // Every node tells of epochs, checkpoints and losses; one telling is enough.
            Event::EpochBegan { .. }
            | Event::CheckpointSaved { .. }
            | Event::CheckpointFailed { .. }
            | Event::NodeLost { .. }
            | Event::CopiesDiffered { .. }
            | Event::StepAudited { .. }
            | Event::StepSkipped { .. }
            | Event::StandsBy { .. }
            | Event::Hung { .. }
            | Event::Ordered { .. }
            | Event::NodeOdd { .. } => {
                if self.history.iter().rev().take(64).any(|earlier| earlier.event == recorded.event) {
                    return;
                }
            }
            Event::Waiting { .. } | Event::Evaluated { .. } => {}
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
            self.logbook.add(slot, &line);
            if self.failure.is_none() {
                self.failure = Some(Failure::new(ExitCode::Failed, sentence));
            }
        } else {
            let line = self.logbook.add(slot, &line);
            self.talk(format!("rank process {slot}: {line}"));
        }
    }

    async fn on_exit(&mut self, slot: u32, status: std::process::ExitStatus) {
        let Some(child) = self.children.remove(&slot) else { return };
        let how = child.how(status);
        match ExitCode::of(status.code()) {
            Some(ExitCode::Done) => {}
            Some(ExitCode::TryAgain) => self.rest(slot),
            // Its token was spent, or too old: the others are in and stay.
            Some(ExitCode::Refused) => {
                let because = self.failure.take().map(|failure| failure.sentence).unwrap_or_default();
                self.talk(format!("rank process {slot} is not started any more: {because}"));
                self.turned_away.get_or_insert(because);
            }
            // It could not start or may not go on: neither can the others of this machine.
            Some(code) => {
                if let Some(failure) = &mut self.failure {
                    failure.code = code;
                }
                self.leaving = true;
                self.tell_all(&Word::Leave { because: format!("rank process {slot} {how}"), deadline_ms: None }).await;
            }
            None => {
                self.dead = Some(format!("rank process {slot} (pid {}) {how}", child.pid()));
                self.rest(slot);
            }
        }
        if !status.success() {
            self.tell_all(&Word::Died { pid: child.pid(), because: format!("its process {how}") }).await;
        }
    }

    /// Whether the run has ended for good, as one of its nodes says.
    fn is_over(&self) -> bool {
        self.ended.as_ref().is_some_and(|(outcome, _)| matches!(outcome.as_str(), "done" | "stopped" | "unusable"))
    }

    /// Has a rank started anew, unless this machine leaves or the run is over.
    fn rest(&mut self, slot: u32) {
        if self.leaving || self.is_over() || !self.prepared.recipe.cluster.restart {
            return;
        }
        let progress = self.commits > self.commits_at_start.get(&slot).copied().unwrap_or_default();
        match self.restarts.entry(slot).or_default().died(progress) {
            Some(pause) => drop(self.resting.insert(slot, Instant::now() + pause)),
            None => self.talk(format!("rank process {slot} died again and again without a step between; it is not started any more")),
        }
    }

    // ---- the end ------------------------------------------------------------------------------

    async fn finish(mut self) -> Result<ExitCode, Failure> {
        // Nothing is held here any more: who waits to take the machine need not wait longer.
        if self.noticed
            && let Err(error) = notice::approve(&self.prepared.recipe.preemption).await
        {
            self.talk(error.to_string());
        }
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
        self.save_logs();
        if let Some(saving) = self.saving.take() {
            drop(tokio::time::timeout(LOGS_EVERY, saving).await);
        }
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
            (Some((outcome, _)), Some(failure), _) if outcome == "failed" || outcome == "left" => Err(failure),
            (Some((outcome, because)), _, _) if outcome == "failed" => {
                Err(Failure::new(ExitCode::TryAgain, format!("the run ended: {because}; {resume}")))
            }
            (Some(_), _, _) => Ok(ExitCode::Done),
            (_, _, Some(dead)) => Err(Failure::new(ExitCode::TryAgain, format!("the run ended: {dead}; {resume}"))),
            (None, _, None) if self.turned_away.is_some() => Err(Failure::new(ExitCode::Refused, self.turned_away.unwrap_or_default())),
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
            // One object that grows: what is examined is rare.
            self.put(&self.events_key, lines.join("\n") + "\n").await;
        }
    }

    /// Writes beside the loop, one write at a time: a store that hangs holds up neither signals nor the news of a death. One that
    /// cannot be written has been named by who trains; what nodes said is kept for the next time.
    fn save_logs(&mut self) {
        if self.saving.as_ref().is_some_and(|saving| !saving.is_finished()) {
            return;
        }
        let Some((key, text)) = self.logbook.due() else { return };
        let store = self.prepared.store.clone();
        self.saving = Some(tokio::spawn(async move {
            if let Err(error) = store.put(&key, bytes::Bytes::from(text)).await {
                tracing::debug!(%error, "the logs could not be written");
            }
        }));
    }

    async fn save_curves(&self) -> Option<String> {
        let svg = curves::svg(&self.prepared.run, self.prepared.steps, self.prepared.recipe.model.prototypes, &self.history);
        self.put("curves.svg", svg).await
    }
}

async fn until(at: Option<Instant>) {
    if let Some(at) = at {
        tokio::time::sleep_until(at).await;
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
