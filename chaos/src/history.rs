//! What happened, in one ordered stream, and the questions that checks ask of it.
//!
//! Simulations write it as they go; the other tiers make it of the events of all nodes. Versions, epochs and digests are
//! plain numbers here, so that a history can also be made by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::fault::Kind;
use crate::scenario::Scenario;

/// A node: one incarnation, numbered in the order of starts.
pub type Who = u32;

/// Where the state of an epoch comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The seed.
    Seed,
    /// A checkpoint.
    Checkpoint,
    /// Copies in the memory of nodes.
    Copies,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happening {
    /// A node was started, at this place.
    Started {
        /// Its place in the cluster.
        slot: u32,
    },
    /// A node ended by its own decision.
    Ended {
        /// Whether it starts again.
        comes_back: bool,
        /// One sentence.
        because: String,
    },
    /// A node was killed.
    Died,
    /// A fault strikes.
    Struck {
        /// Its number in the scenario, from 0.
        fault: usize,
        /// Which strike, numbered over all faults.
        strike: u32,
        /// Its kind.
        kind: Kind,
        /// Nodes that it strikes, or whose paths.
        targets: Vec<Who>,
    },
    /// What a strike did is over.
    Passed {
        /// Its number.
        strike: u32,
    },
    /// What a strike did to the run, said when that is known.
    Felt {
        /// Its number.
        strike: u32,
        /// How often it showed: nodes that ended or stood still, messages, links, requests, steps.
        times: u64,
    },
    /// No fault strikes any more, and all that were are over.
    Calm,
    /// A record was created in the store.
    Recorded {
        /// Its epoch.
        epoch: u64,
        /// Its nonce.
        nonce: String,
        /// Who leads.
        leader: Who,
        /// Who computes, by rank.
        members: Vec<Who>,
    },
    /// The leader says what an epoch goes on from.
    Begun {
        /// The epoch.
        epoch: u64,
        /// Steps committed in the version.
        step: u64,
        /// The epoch of the version.
        of: u64,
        /// Where it comes from.
        source: Source,
        /// Digest of the plan.
        plan: u64,
        /// Who is to hold copies of each shard, each set of holders once.
        holders: Vec<Vec<Who>>,
        /// What the last step of the version used, where nobody has called it stable: all had prepared it.
        used: Vec<(Who, u64, u64)>,
    },
    /// An epoch's plan moves copies between nodes.
    Moved {
        /// The epoch.
        epoch: u64,
        /// How much.
        bytes: u64,
    },
    /// The leader calls a step stable.
    Stable {
        /// In this epoch.
        epoch: u64,
        /// This step.
        step: u64,
        /// Digest of the state after it.
        digest: u64,
        /// What was used: by whom, the first sample and one past the last.
        used: Vec<(Who, u64, u64)>,
    },
    /// A node changed its state because of a word.
    Applied {
        /// The epoch of the word.
        said: u64,
        /// The epoch that the node is in.
        current: u64,
        /// The step.
        step: u64,
    },
    /// A manifest was published.
    Published {
        /// Steps committed in it.
        step: u64,
        /// Digest of its state.
        digest: u64,
    },
    /// A checkpoint was damaged from outside.
    Damaged {
        /// Which.
        step: u64,
    },
    /// A damaged checkpoint was found and set aside.
    SetAside {
        /// Which.
        step: u64,
    },
    /// A checkpoint was read.
    Restored {
        /// Which.
        step: u64,
        /// Digest of what was read.
        digest: u64,
    },
    /// A leader calls a member lost, or puts it out.
    Lost {
        /// Whom.
        whom: Who,
        /// One sentence.
        because: String,
    },
    /// A size that has to stay bounded.
    Size {
        /// Of what.
        of: String,
        /// In its own unit.
        is: u64,
        /// What it may be at most.
        bound: u64,
    },
    /// Something that people want to know.
    Note {
        /// One sentence.
        text: String,
    },
    /// The run is over in good order.
    Done,
}

impl Happening {
    /// The name that triggers use.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Ended { .. } => "ended",
            Self::Died => "died",
            Self::Struck { .. } => "struck",
            Self::Passed { .. } => "passed",
            Self::Felt { .. } => "felt",
            Self::Calm => "calm",
            Self::Recorded { .. } => "recorded",
            Self::Begun { .. } => "begun",
            Self::Moved { .. } => "moved",
            Self::Stable { .. } => "stable",
            Self::Applied { .. } => "applied",
            Self::Published { .. } => "checkpoint_saved",
            Self::Damaged { .. } => "damaged",
            Self::SetAside { .. } => "set_aside",
            Self::Restored { .. } => "restored",
            Self::Lost { .. } => "lost",
            Self::Size { .. } => "size",
            Self::Note { .. } => "note",
            Self::Done => "done",
        }
    }
}

/// One line of a history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Since the start.
    pub at: Duration,
    /// At which node.
    pub who: Who,
    /// What.
    pub what: Happening,
}

/// What the run promised, against which its history is checked.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Promise {
    /// Steps of the run.
    pub steps: u64,
    /// Samples of one step.
    pub batch: u64,
    /// The digest of the state after so many steps, in a run in which nothing failed.
    pub digests: BTreeMap<u64, u64>,
    /// How long copies out of sight are waited for.
    pub grace: Duration,
    /// How long after the last fault all must be well.
    pub recover_within: Duration,
    /// Ranks without which nothing is computed.
    pub ranks_min: u32,
    /// Ranks that compute at most.
    pub ranks_max: u32,
}

impl Promise {
    /// What a scenario promises, with the digests of a run in which nothing failed, where they are known.
    pub(crate) fn of(scenario: &Scenario, digests: BTreeMap<u64, u64>) -> Self {
        let Scenario { cluster, workload, probe, .. } = scenario;
        Self {
            steps: workload.steps,
            batch: u64::from(workload.lanes) * u64::from(workload.samples_per_lane),
            digests,
            grace: cluster.grace.0,
            recover_within: probe.end.recover_within.0,
            ranks_min: cluster.ranks_min,
            ranks_max: cluster.ranks_max,
        }
    }
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct History {
    /// In order of time.
    pub entries: Vec<Entry>,
}

impl History {
    /// Adds a line.
    pub fn push(&mut self, at: Duration, who: Who, what: Happening) {
        self.entries.push(Entry { at, who, what });
    }

    /// The same lines with those of stopped leaders where they belong: a leader that was stopped when all votes lay before it
    /// calls the step stable when it wakes, in an epoch that has ended. The step was committed when the last vote was sent,
    /// which is before the next epoch began.
    pub fn in_order(self) -> Self {
        let mut entries: Vec<Entry> = Vec::with_capacity(self.entries.len());
        let mut begun: Vec<(u64, usize)> = Vec::new();
        for entry in self.entries {
            match entry.what {
                // Nobody follows it any more.
                Happening::Begun { epoch, .. } if begun.iter().any(|(other, _)| *other > epoch) => {
                    let text = format!("epoch {epoch} was to begin, and a newer one has begun");
                    entries.push(Entry { what: Happening::Note { text }, ..entry });
                    continue;
                }
                Happening::Begun { epoch, .. } => begun.push((epoch, entries.len())),
                Happening::Stable { epoch, .. } => {
                    if let Some(newer) = begun.iter().position(|(other, _)| *other > epoch) {
                        let place = begun[newer].1;
                        begun[newer..].iter_mut().for_each(|(_, place)| *place += 1);
                        entries.insert(place, entry);
                        continue;
                    }
                }
                _ => {}
            }
            entries.push(entry);
        }
        Self { entries }
    }

    /// Strikes of faults.
    pub fn struck(&self) -> impl Iterator<Item = (&Entry, Kind, &[Who])> {
        self.entries.iter().filter_map(|entry| match &entry.what {
            Happening::Struck { kind, targets, .. } => Some((entry, *kind, targets.as_slice())),
            _ => None,
        })
    }

    /// Steps that became stable, in order: place in the history, epoch, step, digest.
    pub fn stable(&self) -> impl Iterator<Item = (usize, u64, u64, u64)> {
        self.entries.iter().enumerate().filter_map(|(at, entry)| match &entry.what {
            Happening::Stable { epoch, step, digest, .. } => Some((at, *epoch, *step, *digest)),
            _ => None,
        })
    }

    /// The time after which no fault strikes.
    pub fn calm(&self) -> Option<Duration> {
        self.entries.iter().find(|entry| entry.what == Happening::Calm).map(|entry| entry.at)
    }

    /// Nodes that live at the end.
    pub fn living(&self) -> BTreeSet<Who> {
        let mut living = BTreeSet::new();
        for entry in &self.entries {
            match entry.what {
                Happening::Started { .. } => {
                    living.insert(entry.who);
                }
                Happening::Died | Happening::Ended { .. } => {
                    living.remove(&entry.who);
                }
                _ => {}
            }
        }
        living
    }

    /// The last lines before a place, for people.
    pub fn before(&self, place: usize, count: usize) -> &[Entry] {
        let end = (place + 1).min(self.entries.len());
        &self.entries[end.saturating_sub(count)..end]
    }
}

/// When the step that was told of last became stable; zero where none did.
pub(crate) fn last_stable(entries: &[Entry]) -> Duration {
    entries.iter().rev().find(|entry| matches!(entry.what, Happening::Stable { .. })).map_or(Duration::ZERO, |entry| entry.at)
}
