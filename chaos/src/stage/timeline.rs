//! The events of all nodes of a run, its records and what was done to it, as one history.
//!
//! Every node tells of epochs, steps, checkpoints and losses; each is written once. Tellings that contradict each other are
//! written both, for the checks to find.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use everstep_actors::checkpoint::{Digest, Manifest};
use everstep_actors::event::{Event, MemberInfo, Recorded};
use everstep_actors::protocol::ids::{Epoch, NodeId, Step};
use everstep_actors::protocol::record::EpochRecord;

use crate::history::{Entry, Happening, History, Source, Who, last_stable};

/// What was committed, as one node told it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Committed<'a> {
    /// The step.
    pub(crate) step: u64,
    /// Samples that it used.
    pub(crate) samples: u32,
    /// Hash of their ids.
    pub(crate) samples_hash: u64,
    /// What lanes told of it.
    pub(crate) metrics: &'a BTreeMap<String, f64>,
}

/// What a tier knows of a committed step that events do not say.
pub(crate) trait Books {
    /// A number for the state after the step.
    fn digest(&mut self, committed: Committed<'_>) -> u64;
    /// Whether the samples that were used are those of the step.
    fn used_its_own(&self, committed: Committed<'_>) -> bool;
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Timeline {
    folder: PathBuf,
    began_ms: u64,
    batch: u64,
    entries: Vec<Entry>,
    numbers: BTreeMap<NodeId, Who>,
    /// The newest record, and who leads by all of them.
    pub(crate) newest: Option<EpochRecord>,
    leaders: BTreeMap<u64, NodeId>,
    begun: BTreeMap<u64, u64>,
    /// The epoch that each node is in.
    inside: BTreeMap<NodeId, u64>,
    stable: BTreeMap<(u64, u64), u64>,
    published: BTreeSet<u64>,
    lost: BTreeSet<NodeId>,
    done: bool,
    counts: BTreeMap<&'static str, u32>,
    /// Names of what happened since they were taken, and which of their kind it was.
    news: Vec<(&'static str, u32)>,
}

impl Timeline {
    /// Of a run that lives in `folder` and uses `batch` samples a step; it begins now.
    pub(crate) fn new(folder: &Path, batch: u64) -> Self {
        Self {
            folder: folder.into(),
            began_ms: now_ms(),
            batch,
            entries: Vec::new(),
            numbers: BTreeMap::new(),
            newest: None,
            leaders: BTreeMap::new(),
            begun: BTreeMap::new(),
            inside: BTreeMap::new(),
            stable: BTreeMap::new(),
            published: BTreeSet::new(),
            lost: BTreeSet::new(),
            done: false,
            counts: BTreeMap::new(),
            news: Vec::new(),
        }
    }

    /// Time since the beginning, in whole milliseconds as events have it.
    pub(crate) fn now(&self) -> Duration {
        self.since(now_ms())
    }

    fn since(&self, at_ms: u64) -> Duration {
        Duration::from_millis(at_ms.saturating_sub(self.began_ms))
    }

    /// A node's number.
    pub(crate) fn who(&mut self, node: NodeId) -> Who {
        let next = self.numbers.len() as Who;
        *self.numbers.entry(node).or_insert(next)
    }

    /// Writes a line.
    pub(crate) fn push(&mut self, at: Duration, who: Who, what: Happening) {
        let name = what.name();
        let count = self.counts.entry(name).or_default();
        *count += 1;
        self.news.push((name, *count));
        self.entries.push(Entry { at, who, what });
    }

    /// Names of what happened since the last call, each with its number among its kind.
    pub(crate) fn news(&mut self) -> Vec<(&'static str, u32)> {
        std::mem::take(&mut self.news)
    }

    /// Steps that were committed at most.
    pub(crate) fn reached(&self) -> Option<u64> {
        self.stable.keys().map(|(_, step)| step + 1).max()
    }

    /// When the last step became stable.
    pub(crate) fn last_stable(&self) -> Duration {
        last_stable(&self.entries)
    }

    /// Whether a step of this epoch has become stable.
    pub(crate) fn steps_in(&self, epoch: Epoch) -> bool {
        self.stable.range((epoch.0, 0)..(epoch.0 + 1, 0)).next().is_some()
    }

    /// Whether the run is over in good order.
    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Reads the records that were created since the last look.
    pub(crate) fn look(&mut self) {
        loop {
            let next = self.newest.as_ref().map_or(1, |record| record.epoch.0 + 1);
            let path = self.folder.join(EpochRecord::key(Epoch(next)));
            let Some(record) = std::fs::read(&path).ok().and_then(|body| serde_json::from_slice::<EpochRecord>(&body).ok()) else { return };
            let at = written(&path).map_or_else(|| self.now(), |at_ms| self.since(at_ms));
            let leader = self.who(record.leader);
            let members = record.members.iter().map(|member| self.who(member.node)).collect();
            self.leaders.insert(next, record.leader);
            self.push(at, leader, Happening::Recorded { epoch: next, nonce: record.nonce.clone(), leader, members });
            self.newest = Some(record);
        }
    }

    /// Takes in what a node tells.
    pub(crate) fn hear(&mut self, recorded: &Recorded, books: &mut impl Books) {
        let at = self.since(recorded.at_ms);
        let who = self.who(recorded.recorded_by);
        match &recorded.event {
            Event::Waiting { because } => self.push(at, who, Happening::Note { text: because.clone() }),
            Event::EpochBegan { epoch, step, leader, members, state_from, state_epoch, copies, moved_bytes, .. } => {
                self.look();
                if recorded.recorded_by == *leader {
                    self.push(at, who, Happening::Moved { epoch: epoch.0, bytes: *moved_bytes });
                }
                self.inside.insert(recorded.recorded_by, epoch.0);
                self.begun(at, (*epoch, *leader), (step.0, state_epoch.0, state_from), members, copies);
            }
            Event::StepCommitted { step, epoch, metrics, samples, samples_hash, .. } => {
                let current = self.inside.get(&recorded.recorded_by).copied().unwrap_or(epoch.0);
                // A step that was prepared by all is told of by those that go on from it.
                if current > epoch.0 {
                    self.push(at, who, Happening::Applied { said: epoch.0, current, step: step.0 });
                }
                let committed = Committed { step: step.0, samples: *samples, samples_hash: *samples_hash, metrics };
                self.committed(at, *epoch, committed, books);
            }
            Event::CheckpointSaved { step, .. } => self.published(at, who, *step),
            Event::CheckpointFailed { step, because } if because.starts_with("set aside") => {
                // It may be saved again.
                self.published.remove(&step.0);
                self.push(at, who, Happening::SetAside { step: step.0 });
            }
            Event::CheckpointFailed { step, because } => {
                self.push(at, who, Happening::Note { text: format!("the checkpoint after {} steps failed: {because}", step.0) });
            }
            Event::NodeLost { node, because, .. } => {
                if self.lost.insert(*node) {
                    let whom = self.who(*node);
                    self.push(at, who, Happening::Lost { whom, because: because.clone() });
                }
            }
            Event::CopiesDiffered { shards, .. } => {
                self.push(at, who, Happening::Note { text: format!("copies of {} shards differ", shards.len()) });
            }
            Event::NodeOdd { node, because } => {
                let text = format!("node {} is the odd one: {because}", self.who(*node));
                self.push(at, who, Happening::Note { text });
            }
            Event::StepAudited { step, computations, .. } => {
                self.push(at, who, Happening::Note { text: format!("step {} was computed {computations} times", step.0) });
            }
            Event::StepSkipped { step, because } => {
                self.push(at, who, Happening::Note { text: format!("step {} was skipped: {because}", step.0) });
            }
            Event::StandsBy { node } => self.push(at, who, Happening::Note { text: format!("{node} stands by") }),
            Event::Ordered { .. } => self.push(at, who, Happening::Note { text: recorded.event.sentence() }),
            Event::Hung { node, because } => self.push(at, who, Happening::Note { text: format!("{node} hangs: {because}") }),
            Event::Ended { outcome, .. } if outcome == "done" => self.is_over(at, who),
            Event::Ended { .. } | Event::Evaluated { .. } | Event::SampleReplaced { .. } => {}
        }
    }

    /// The run has ended in good order.
    pub(crate) fn is_over(&mut self, at: Duration, who: Who) {
        if !self.done {
            self.done = true;
            self.push(at, who, Happening::Done);
        }
    }

    fn begun(
        &mut self,
        at: Duration,
        (epoch, leader): (Epoch, NodeId),
        (step, of, from): (u64, u64, &str),
        members: &[MemberInfo],
        copies: &[Vec<u32>],
    ) {
        let ranks: BTreeMap<u32, NodeId> = members.iter().map(|member| (member.rank, member.node)).collect();
        let mut holders: Vec<Vec<Who>> = Vec::new();
        for set in copies {
            holders.push(set.iter().filter_map(|rank| ranks.get(rank).copied()).map(|node| self.who(node)).collect());
        }
        let lanes: Vec<(u32, u32)> = members.iter().map(|member| member.lanes).collect();
        let plan = number(&Digest::of(format!("{step} {of} {from} {lanes:?} {holders:?}").as_bytes()));
        if self.begun.insert(epoch.0, plan) == Some(plan) {
            return;
        }
        let leader = self.who(leader);
        let source = match from.split(' ').next() {
            Some("seed") => Source::Seed,
            Some("copies") => Source::Copies,
            _ => {
                self.restored(at, leader, step);
                Source::Checkpoint
            }
        };
        self.push(at, leader, Happening::Begun { epoch: epoch.0, step, of, source, plan, holders, used: Vec::new() });
    }

    fn restored(&mut self, at: Duration, who: Who, step: u64) {
        // A leader that went right after it had published told nobody.
        let path = self.folder.join(Manifest::key(Step(step)));
        let written = written(&path).map_or(at, |at_ms| self.since(at_ms));
        self.published(written, who, Step(step));
        if let Some(digest) = self.manifest(step) {
            self.push(at, who, Happening::Restored { step, digest });
        }
    }

    fn committed(&mut self, at: Duration, epoch: Epoch, committed: Committed<'_>, books: &mut impl Books) {
        let key = (epoch.0, committed.step);
        if self.stable.insert(key, committed.samples_hash) == Some(committed.samples_hash) {
            return;
        }
        let leader = self.leaders.get(&epoch.0).copied();
        let who = leader.map_or(0, |leader| self.who(leader));
        let first = committed.step * self.batch;
        let mut used = vec![(who, first, first + u64::from(committed.samples))];
        if !books.used_its_own(committed) {
            used.clear();
        }
        let digest = books.digest(committed);
        self.push(at, who, Happening::Stable { epoch: epoch.0, step: committed.step, digest, used });
    }

    fn published(&mut self, at: Duration, who: Who, step: Step) {
        if self.published.contains(&step.0) {
            return;
        }
        // One that was pruned or damaged meanwhile says nothing any more.
        if let Some(digest) = self.manifest(step.0) {
            self.published.insert(step.0);
            self.push(at, who, Happening::Published { step: step.0, digest });
        }
    }

    /// The digest of the state that a manifest names.
    fn manifest(&self, step: u64) -> Option<u64> {
        let body = std::fs::read(self.folder.join(Manifest::key(Step(step)))).ok()?;
        let value: serde_json::Value = serde_json::from_slice(&body).ok()?;
        let state: Digest = serde_json::from_value(value.get("manifest")?.get("state")?.clone()).ok()?;
        Some(number(&state))
    }

    /// All lines in the order in which they happened.
    pub(crate) fn finish(mut self) -> History {
        self.look();
        self.entries.sort_by_key(|entry| entry.at);
        History { entries: self.entries }.in_order()
    }
}

/// The number that histories use for a digest.
pub(crate) fn number(digest: &Digest) -> u64 {
    digest.0.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    everstep_actors::clock::wall_ms()
}

fn written(path: &Path) -> Option<u64> {
    let modified: SystemTime = std::fs::metadata(path).ok()?.modified().ok()?;
    modified.duration_since(UNIX_EPOCH).ok().map(|since| since.as_millis() as u64)
}
