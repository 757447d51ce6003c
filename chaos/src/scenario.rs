//! A scenario: a cluster, what it computes, which faults strike it when, and what must hold. One format for all tiers.
//!
//! ```toml
//! name = "half-preempted"
//! seed = 42
//!
//! [cluster]
//! nodes = 8
//! nodes_per_host = 2
//!
//! [workload]
//! steps = 300
//!
//! [[fault]]
//! at = { step = 50 }
//! kind = "drain"
//! target = "50%"
//! lead = "12s"
//!
//! [[fault]]
//! at = { event = "checkpoint_saved", nth = 2, after = "5ms" }
//! kind = "kill"
//! target = "leader"
//! restart = "2s"
//!
//! [probe.end]
//! recover_within = "15s"
//! ```

use std::path::Path;
use std::time::Duration;

use everstep_actors::net::link::Heartbeat;
use serde::{Deserialize, Serialize};

use crate::checks::Check;
use crate::fault::Fault;

mod span;
mod target;
mod trigger;

pub use span::Span;
pub use target::{Candidate, Target};
pub use trigger::{Trigger, When};

/// A scenario cannot be used: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read.
    #[error("scenario {path}: {because}")]
    Unread {
        /// Which.
        path: String,
        /// Why.
        because: String,
    },
    /// The text is no scenario.
    #[error("{0}")]
    Malformed(String),
    /// A fault asks for something that makes no sense.
    #[error("fault {number} ({kind}): {because}")]
    Fault {
        /// Its place in the file, from 1.
        number: usize,
        /// Its kind.
        kind: String,
        /// What to change.
        because: String,
    },
}

/// See the module's text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name, which replays and reports use.
    pub name: String,
    /// One sentence for people.
    #[serde(default)]
    pub about: String,
    /// Decides everything that is drawn.
    #[serde(default)]
    pub seed: u64,
    /// Who computes.
    #[serde(default)]
    pub cluster: Cluster,
    /// What is computed.
    #[serde(default)]
    pub workload: Workload,
    /// What strikes.
    #[serde(default, rename = "fault")]
    pub faults: Vec<Fault>,
    /// What must hold.
    #[serde(default)]
    pub probe: Probes,
}

/// Who computes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Processes, one rank each.
    pub nodes: u32,
    /// Processes of one machine, which have one launcher.
    pub nodes_per_host: u32,
    /// Zones that hosts are in, in turn; named `a`, `b`, …
    pub zones: u32,
    /// Ranks that a start waits for; 0 for all nodes.
    pub ranks_start: u32,
    /// Ranks without which nothing is computed.
    pub ranks_min: u32,
    /// Ranks that compute at most; more stand by.
    pub ranks_max: u32,
    /// Copies of each shard besides the owner's.
    pub replicas: u32,
    /// How long copies out of sight are waited for.
    pub grace: Span,
    /// In the tiers local and paused: time between two heartbeats of a link. What counts as silence is longer or shorter by as much.
    pub beat: Span,
    /// Whether launchers start a node again that the run has put out.
    pub relaunch: bool,
}

impl Default for Cluster {
    fn default() -> Self {
        Self {
            nodes: 4,
            nodes_per_host: 1,
            zones: 1,
            ranks_start: 0,
            ranks_min: 1,
            ranks_max: u32::MAX,
            replicas: 1,
            grace: Span(Duration::from_secs(5)),
            beat: Span(Heartbeat::default().interval),
            relaunch: true,
        }
    }
}

/// What is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Workload {
    /// Steps of the run.
    pub steps: u64,
    /// Lanes of the global batch.
    pub lanes: u32,
    /// Samples of a lane in a step.
    pub samples_per_lane: u32,
    /// Shards of the model.
    pub shards: u32,
    /// How long a step computes.
    pub step_time: Span,
    /// Steps between checkpoints.
    pub checkpoint_every: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Self { steps: 100, lanes: 8, samples_per_lane: 4, shards: 12, step_time: Span(Duration::from_millis(200)), checkpoint_every: 20 }
    }
}

/// What must hold, and when.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Probes {
    /// At every moment.
    pub continuous: Continuous,
    /// When all faults are over.
    pub end: End,
}

/// What must hold at every moment. Empty: all checks that apply.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Continuous {
    /// The checks by name.
    pub invariants: Vec<Check>,
}

/// What must hold in the end. Empty: all checks that apply.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct End {
    /// The checks by name.
    pub invariants: Vec<Check>,
    /// How long after the last fault everyone who lives is in one epoch and steps become stable again.
    pub recover_within: Span,
    /// How long faults strike at most, from the start.
    pub storm: Span,
    /// Whether all steps are to be played, also once all is well: for as long as the next one comes within `recover_within`.
    pub finish: bool,
}

impl Default for End {
    fn default() -> Self {
        Self { invariants: Vec::new(), recover_within: Span(Duration::from_secs(30)), storm: Span(Duration::from_secs(60)), finish: false }
    }
}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// It is not one; names line and key.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| ScenarioError::Malformed(error.to_string()))?;
        scenario.check()?;
        Ok(scenario)
    }

    /// Reads a scenario's file.
    ///
    /// # Errors
    /// It cannot be read, or is none.
    pub fn load(path: &Path) -> Result<Self, ScenarioError> {
        let unread = |because: String| ScenarioError::Unread { path: path.display().to_string(), because };
        let text = std::fs::read_to_string(path).map_err(|error| unread(error.to_string()))?;
        Self::parse(&text).map_err(|error| unread(error.to_string()))
    }

    /// The scenario as a file.
    ///
    /// # Errors
    /// A value has no TOML form.
    pub fn to_toml(&self) -> Result<String, ScenarioError> {
        toml::to_string(self).map_err(|error| ScenarioError::Malformed(error.to_string()))
    }

    /// Whether its faults make sense.
    pub(crate) fn check(&self) -> Result<(), ScenarioError> {
        for (fault, number) in self.faults.iter().zip(1..) {
            fault.check().map_err(|because| ScenarioError::Fault { number, kind: fault.kind.to_string(), because })?;
        }
        Ok(())
    }

    /// Ranks that a start waits for.
    pub fn ranks_start(&self) -> u32 {
        let cluster = &self.cluster;
        if cluster.ranks_start == 0 { cluster.nodes.min(cluster.ranks_max) } else { cluster.ranks_start }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;

    #[test]
    fn the_example_of_the_module_is_a_scenario_and_survives_a_round_trip() {
        let text = include_str!("scenario.rs");
        let example: String = text.lines().skip_while(|line| *line != "//! ```toml").skip(1).take_while(|line| *line != "//! ```").fold(
            String::new(),
            |mut example, line| {
                example.push_str(line.trim_start_matches("//!"));
                example.push('\n');
                example
            },
        );
        let scenario = Scenario::parse(&example).unwrap();
        assert_eq!(scenario.faults.len(), 2);
        assert_eq!(scenario.faults[0].kind, Kind::Drain);
        assert_eq!(scenario.faults[1].at.when, When::Event { name: "checkpoint_saved".into(), nth: 2 });
        assert_eq!(scenario.probe.end.recover_within, Span(Duration::from_secs(15)));
        assert_eq!(Scenario::parse(&scenario.to_toml().unwrap()).unwrap(), scenario);
    }

    #[test]
    fn what_is_no_scenario_is_refused_with_the_place() {
        let table = [
            ("name = 'x'\n[cluster]\nnods = 3", "nods"),
            ("name = 'x'\n[[fault]]\nat = { step = 1 }\nkind = 'kil'", "kil"),
            ("name = 'x'\n[[fault]]\nat = { step = 1, t = '1s' }\nkind = 'kill'", "one of"),
            ("name = 'x'\n[[fault]]\nat = { step = 1 }\nkind = 'kill'\ntarget = 'everybody'", "everybody"),
            ("name = 'x'\n[[fault]]\nat = { step = 1 }\nkind = 'kill'\nlead = '3s'", "fault 1 (kill)"),
            ("name = 'x'\n[[fault]]\nat = { step = 1 }\nkind = 'stop'\nfor = '3 parsecs'", "parsecs"),
            ("name = 'x'\n[[fault]]\nat = { step = 1 }\nkind = 'cut'\nfrom = 'one'\nto = 'all'\nmode = 'down'", "fault 1 (cut)"),
            ("name = 'x'\n[[fault]]\nat = { step = 1 }\nkind = 'cut'\nfrom = 'one'\nmode = 'away'", "one of down, moved"),
            ("name = 'x'\n[probe.end]\ninvariants = ['luck']", "luck"),
        ];
        for (text, part) in table {
            let error = Scenario::parse(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
