//! The payload: a flat list of items that name their parents and children.
//!
//! References are paths: `run`, `node/<id>`, `rank/3`, `actor/<node id>/<name>`, `lane/7`, `shard/<unit>/<n>`, `checkpoint/<step>`,
//! `event/<node>/<milliseconds since the Unix epoch>`, `link/<node id>/<node id>`. Node ids stand as people see them, shortened as everywhere else.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::question::Kind;
use crate::event::{Event, Recorded};

/// Raised whenever a field is renamed, removed or changes its meaning; new fields do not raise it.
pub const SCHEMA_VERSION: u32 = 1;

/// A run, or a part of it, at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct View {
    /// The version of this schema.
    pub schema_version: u32,
    /// The node that answered; empty where the store did.
    pub answered_by: String,
    /// Whether a leader answered for the whole run, one node for itself, or only the store.
    pub scope: Scope,
    /// When the answer was made, milliseconds since the Unix epoch.
    pub as_of_ms: u64,
    /// What could not be had, one sentence each: a member that did not answer, a list that was cut.
    pub missing: Vec<String>,
    /// Items that matched the question before its limit cut them.
    pub matched: u64,
    /// The items, in the order asked for.
    pub items: Vec<Item>,
}

/// Who an answer speaks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The leader, for the run.
    Run,
    /// One node, for itself.
    Node,
    /// Nobody: what was durable in the store.
    Store,
}

/// One thing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Item {
    /// Its name in every command.
    pub reference: String,
    /// The reference of what it belongs to; empty for the run.
    pub parent: String,
    /// References of what belongs to it.
    pub children: Vec<String>,
    /// One word: what it is doing or how it is (`computing`, `waiting`, `silent`, `intact`, …).
    pub state: String,
    /// Since when, milliseconds since the Unix epoch; 0 where that is not known.
    pub since_ms: u64,
    /// When this was true, by the clock of the node that told it.
    pub as_of_ms: u64,
    /// What is particular to its kind.
    #[serde(flatten)]
    pub properties: Properties,
}

/// What is particular to a kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", content = "properties", rename_all = "snake_case")]
pub enum Properties {
    /// The run.
    Run(RunView),
    /// A process of the run.
    Node(NodeView),
    /// A node's place in the plan.
    Rank(RankView),
    /// An actor of a node.
    Actor(ActorView),
    /// A fixed slice of the global batch.
    Lane(LaneView),
    /// A part of the state.
    Shard(ShardView),
    /// A checkpoint in the store.
    Checkpoint(CheckpointView),
    /// Something that happened.
    Event(EventView),
    /// A connection between two nodes, as one end sees it.
    Link(LinkView),
}

/// The run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RunView {
    /// Its name, as its certificates carry it.
    pub name: String,
    /// Steps committed.
    pub step: u64,
    /// Steps of the run.
    pub steps: u64,
    /// The current epoch, 0 before the first.
    pub epoch: u64,
    /// Why it began.
    pub epoch_because: String,
    /// When it began, milliseconds since the Unix epoch.
    pub epoch_since_ms: u64,
    /// Reference of the leader's node; empty if there is none.
    pub leader: String,
    /// Why nothing is computed; absent while steps are.
    pub waiting: Option<String>,
    /// Whether an operator paused it.
    pub paused: bool,
    /// Milliseconds since the last step was committed.
    pub progress_age_ms: u64,
    /// Mean over the last 20 steps.
    pub images_per_s: f64,
    /// Means over lanes of the last step (`loss`, `entropy`, `lr`, …).
    pub metrics: BTreeMap<String, f64>,
    /// Seconds of a step, attributed: `data`, `compute`, `exchange`, `update`, `vote`, each a mean over ranks and the last 16 steps.
    pub phases: BTreeMap<String, f64>,
    /// Ranks that compute.
    pub ranks: u32,
    /// Lanes of a step.
    pub lanes: u32,
    /// The newest checkpoint's step.
    pub checkpoint: Option<u64>,
    /// Steps whose ledger lines are durable.
    pub ledger: u64,
    /// Bytes of shards that moved when the epoch began.
    pub moved_bytes: u64,
    /// Samples of the steps that this node saw committed.
    pub samples: u64,
    /// How often a step's seconds were at most each of these bounds (`0.1`, `1`, …, `+Inf`), cumulative; with `sum` their sum.
    pub step_seconds: BTreeMap<String, f64>,
}

/// A process of the run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct NodeView {
    /// Its whole id.
    pub id: String,
    /// Its label `host`.
    pub host: String,
    /// Its label `zone`; empty where nobody said.
    pub zone: String,
    /// Where others dial it.
    pub address: String,
    /// Its operating-system process id.
    pub pid: u32,
    /// Its rank in the plan, if it has one.
    pub rank: Option<u32>,
    /// Whether it leads.
    pub leads: bool,
    /// The build, as its certificate and terms say.
    pub build: String,
    /// When it started, milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// Its resident memory.
    pub resident_bytes: u64,
    /// Its open files and sockets.
    pub open_files: u32,
    /// CPU time since its start, seconds.
    pub cpu_s: f64,
    /// Milliseconds since the leader heard it last; 0 for the leader itself.
    pub heard_age_ms: u64,
    /// Why it is leaving, if it is.
    pub draining: Option<String>,
    /// When its certificate ends, milliseconds since the Unix epoch, where that is known.
    pub certificate_until_ms: Option<u64>,
}

/// A rank.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct RankView {
    /// Its number.
    pub rank: u32,
    /// Reference of its node.
    pub node: String,
    /// Steps committed, as it knows.
    pub step: u64,
    /// Its lanes, first and one past the last.
    pub lanes: (u32, u32),
    /// Shards that it owns.
    pub owns: u32,
    /// Bytes of them, optimizer slots included.
    pub owned_bytes: u64,
    /// Bytes of copies that it keeps for others.
    pub copies_bytes: u64,
    /// The phase that it is in: `data`, `compute`, `exchange`, `update`, `vote`, `idle`.
    pub phase: String,
    /// Seconds of a step by phase, means of its last 16 steps.
    pub phases: BTreeMap<String, f64>,
    /// How many times as long as the median rank it computes for one lane.
    pub pace: f64,
}

/// An actor.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ActorView {
    /// Its name, unique in its node.
    pub name: String,
    /// What kind of actor: `rank`, `loader`, `link`, `coordinator`, ….
    pub actor_kind: String,
    /// Reference of its node.
    pub node: String,
    /// Messages that wait.
    pub depth: u64,
    /// The most that ever waited.
    pub high_water: u64,
    /// The most that may wait.
    pub capacity: u64,
    /// Age of the oldest message that waits, milliseconds.
    pub oldest_ms: Option<u64>,
    /// The handler at work.
    pub handler: Option<String>,
    /// For how long, milliseconds.
    pub handler_ms: Option<u64>,
    /// Messages handled.
    pub handled: u64,
    /// How often its process was started anew: no actor is by itself.
    pub restarts: u32,
    /// Its last failure: in state `failed` the one that ended it, and for which its node leaves the run.
    pub error: Option<ErrorView>,
    /// The last things it did, oldest first.
    pub recent: Vec<Recent>,
}

/// Something an actor did.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Recent {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What.
    pub what: String,
}

/// A failure, and what lies under it.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ErrorView {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// One sentence.
    pub message: String,
    /// The first cause of it, one sentence.
    pub root_cause: String,
    /// The reference at which the root cause lies.
    pub root: String,
    /// Whether it only passes on what happened elsewhere, as a node does that leaves because one of its actors failed.
    pub is_propagated: bool,
    /// When the actor did again what had failed, milliseconds since the Unix epoch; absent while the failure stands.
    #[serde(default)]
    pub mended_ms: Option<u64>,
}

impl ActorView {
    /// Its last failure, where that has not been made good.
    pub fn trouble(&self) -> Option<&ErrorView> {
        self.error.as_ref().filter(|error| error.mended_ms.is_none())
    }
}

/// A lane.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LaneView {
    /// Its number.
    pub lane: u32,
    /// Reference of the rank that computes it.
    pub rank: String,
    /// The step that it is in.
    pub step: u64,
    /// What it does: `loading`, `computing`, `waits for <call>`, `done`, `idle`.
    pub doing: String,
    /// Seconds of its last step.
    pub busy_s: f64,
    /// Seconds of those in which it waited for others.
    pub wait_s: f64,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct ShardView {
    /// The unit that it is cut from.
    pub unit: String,
    /// Values of it.
    pub values: u64,
    /// Bytes, optimizer slots included.
    pub bytes: u64,
    /// Reference of the rank that owns it.
    pub owner: String,
    /// References of the ranks that keep copies.
    pub copies: Vec<String>,
    /// Steps committed in the owner's version.
    pub step: u64,
    /// Steps by which the oldest copy is behind.
    pub lag: u64,
}

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct CheckpointView {
    /// Steps committed when it was taken.
    pub step: u64,
    /// Size in the store.
    pub bytes: u64,
    /// Files of it.
    pub parts: u32,
    /// Where its manifest lies.
    pub manifest: String,
    /// Seconds from snapshot to manifest, where that is known.
    pub seconds: Option<f64>,
    /// How long the ranks were held up, milliseconds, where that is known.
    pub stall_ms: Option<f64>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EventView {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Reference of the node that recorded it.
    pub recorded_by: String,
    /// Its name in the log (`epoch_began`, `node_lost`, …).
    pub event: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// One sentence.
    pub text: String,
    /// Its epoch, where it has one.
    pub epoch: Option<u64>,
    /// Its step, where it has one.
    pub step: Option<u64>,
    /// What it says, as its line in the log; of an epoch without its members, which are items of their own.
    #[serde(default)]
    pub detail: Map<String, Value>,
}

/// One end of a connection.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct LinkView {
    /// Reference of the node that tells.
    pub from: String,
    /// Reference of the node at the other end.
    pub to: String,
    /// Round-trip time, milliseconds.
    pub rtt_ms: f64,
    /// Milliseconds since a heartbeat came.
    pub heard_age_ms: u64,
    /// Silence after which the other end is given up, milliseconds.
    pub patience_ms: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets lost on the way out.
    pub lost_packets: u64,
    /// The largest packet that the path is known to carry, bytes; near 1,200 every byte costs several times as much of a processor.
    #[serde(default)]
    pub mtu: u64,
    /// Control messages that wait to be sent.
    pub control_waiting: u64,
    /// Frames of numbers that wait to be sent.
    pub data_waiting: u64,
}

impl Item {
    /// An event as an item. It is known by who recorded it and when, which is one event and the same wherever it is told: in a live
    /// answer, and in the store's log later.
    pub fn of_event(recorded: &Recorded) -> Self {
        let event = &recorded.event;
        let recorder = recorded.recorded_by.to_string();
        Self {
            reference: format!("event/{recorder}/{}", recorded.at_ms),
            parent: format!("node/{recorder}"),
            children: Vec::new(),
            state: event.severity().name().to_owned(),
            since_ms: recorded.at_ms,
            as_of_ms: recorded.at_ms,
            properties: Properties::Event(EventView {
                at_ms: recorded.at_ms,
                recorded_by: format!("node/{recorder}"),
                event: event.name().to_owned(),
                severity: event.severity().name().to_owned(),
                text: event.sentence(),
                epoch: event.epoch().map(|epoch| epoch.0),
                step: event.step().map(|step| step.0),
                detail: detail(recorded),
            }),
        }
    }

    /// The event that this item tells of, if it is one: what is not durable yet, or cannot be made so, is judged by it.
    pub fn recorded(&self) -> Option<Recorded> {
        match &self.properties {
            Properties::Event(event) => serde_json::from_value(Value::Object(event.detail.clone())).ok(),
            _ => None,
        }
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match &self.properties {
            Properties::Run(_) => Kind::Run,
            Properties::Node(_) => Kind::Node,
            Properties::Rank(_) => Kind::Rank,
            Properties::Actor(_) => Kind::Actor,
            Properties::Lane(_) => Kind::Lane,
            Properties::Shard(_) => Kind::Shard,
            Properties::Checkpoint(_) => Kind::Checkpoint,
            Properties::Event(_) => Kind::Event,
            Properties::Link(_) => Kind::Link,
        }
    }

    /// All its fields, to be looked up by name.
    pub fn fields(&self) -> Fields {
        let mut outer = serde_json::to_value(self).unwrap_or_default();
        let inner = outer.get_mut("properties").map(Value::take).unwrap_or_default();
        Fields { outer, inner }
    }
}

/// The line of an event in the log. An epoch of hundreds of members would outweigh everything else in an answer: they are left off.
fn detail(recorded: &Recorded) -> Map<String, Value> {
    let mut recorded = recorded.clone();
    if let Event::EpochBegan { members, copies, .. } = &mut recorded.event {
        members.clear();
        copies.clear();
    }
    match serde_json::to_value(recorded) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    }
}

/// The fields of an item, or of a row of another list.
#[derive(Debug, Clone, PartialEq)]
pub struct Fields {
    outer: Value,
    inner: Value,
}

impl Fields {
    /// Those of a row that is no item, such as a line of a log.
    pub fn of(row: &impl Serialize) -> Self {
        Self { outer: Value::Null, inner: serde_json::to_value(row).unwrap_or_default() }
    }

    /// Of an item `reference`, `parent`, `state`, `since_ms`, `as_of_ms`, `kind`, or one of its properties; of any other row one of
    /// its own. `phases.compute` is one that lies deeper.
    pub fn get(&self, name: &str) -> Option<&Value> {
        let common = matches!(name, "reference" | "parent" | "state" | "since_ms" | "as_of_ms" | "kind");
        let outer = if common { self.outer.get(name) } else { None };
        outer.or_else(|| name.split('.').try_fold(&self.inner, |at, part| at.get(part)))
    }
}

impl View {
    /// The item of this reference.
    pub fn item(&self, reference: &str) -> Option<&Item> {
        self.items.iter().find(|item| item.reference == reference)
    }

    /// The run, if it is in the view.
    pub fn run(&self) -> Option<&RunView> {
        self.items.iter().find_map(|item| match &item.properties {
            Properties::Run(run) => Some(run),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::{NodeId, Step};

    #[test]
    fn an_event_is_known_by_who_recorded_it_and_when_and_comes_back_from_its_item() {
        let event = Event::CheckpointFailed { step: Step(4), because: "no space is left".into() };
        let recorded = Recorded { at_ms: 5_000, recorded_by: NodeId([7; 16]), event };
        let item = Item::of_event(&recorded);
        assert_eq!(item.reference, format!("event/{}/5000", recorded.recorded_by));
        assert_eq!(item.recorded(), Some(recorded));
    }
}
