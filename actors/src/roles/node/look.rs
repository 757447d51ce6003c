//! What this node tells an operator of itself and of its run, as items. Nothing here waits for who computes.

use super::*;
use crate::desk::question::Kind;
use crate::desk::view::{
    ActorView, CheckpointView, ErrorView, Item, LaneView, LinkView, NodeView, Properties, RankView, Recent, RunView, ShardView,
};
use crate::net::mailbox::ActorReport;
use crate::roles::desk::{STEP_BOUNDS, Story};
use crate::roles::lane::Doing;
use crate::roles::phases;

/// A run that has committed nothing for so long and says nothing about why is shown as silent on why it waits.
const QUIET_MS: u64 = 60_000;

/// A node with more links than this tells of their actors only where somebody asks for links or for the node.
const LINK_ACTORS_MAX: usize = 64;

pub(super) fn node_reference(node: NodeId) -> String {
    format!("node/{node}")
}

/// A reader of one node's parts at one moment.
pub(super) struct Look<'a> {
    pub(super) shared: &'a Shared,
    pub(super) story: &'a Story,
    pub(super) now: u64,
}

impl Look<'_> {
    /// This node's own items of these kinds.
    pub(super) fn own(&self, wanted: &(dyn Fn(Kind) -> bool + Send + Sync)) -> Vec<Item> {
        let mut items = Vec::new();
        if wanted(Kind::Node) {
            items.push(self.node());
        }
        if wanted(Kind::Rank) {
            items.extend(self.rank());
        }
        if wanted(Kind::Actor) {
            items.extend(self.shared.table.reports().into_iter().map(|report| self.actor(report)));
            // They are as many as pairs of members: those of a large run are told where somebody asks for links or for one node.
            if self.shared.links.len() <= LINK_ACTORS_MAX || wanted(Kind::Link) {
                let links: Vec<ActorReport> = self.shared.links.iter().map(|link| link.report()).collect();
                items.extend(links.into_iter().map(|report| self.actor(report)));
            }
        }
        if wanted(Kind::Lane) {
            items.extend(self.lanes());
        }
        if wanted(Kind::Event) {
            items.extend(self.story.events.iter().map(Item::of_event));
        }
        if wanted(Kind::Link) {
            items.extend(self.links());
        }
        items
    }

    fn item(&self, reference: String, parent: String, state: &str, since_ms: u64, properties: Properties) -> Item {
        Item { reference, parent, children: Vec::new(), state: state.to_owned(), since_ms, as_of_ms: self.now, properties }
    }

    fn me(&self) -> String {
        node_reference(self.shared.me)
    }

    fn my_rank(&self) -> Option<u32> {
        self.story.members.iter().find(|member| member.node == self.shared.me).map(|member| member.rank)
    }

    /// The run as this node sees it.
    pub(super) fn run(&self) -> Item {
        let story = self.story;
        let (state, since) = match &story.waiting {
            Some((because, since)) if because.starts_with("paused") => ("paused", *since),
            Some((_, since)) if story.events.back().is_some_and(|last| self.is_own_end(last)) => ("ended", *since),
            Some((_, since)) => ("waiting", *since),
            None => ("training", story.epoch_since_ms),
        };
        let age = self.now.saturating_sub(story.step_since_ms.max(story.epoch_since_ms).max(self.shared.started_ms));
        let waiting = story.waiting.as_ref().map(|(because, _)| because.clone());
        let waiting =
            waiting.or_else(|| (age > QUIET_MS && self.stalls(age)).then(|| format!("no step was committed for {} s", age / 1_000)));
        let (counts, sum) = &story.step_seconds;
        let mut below = 0;
        let mut step_seconds: BTreeMap<String, f64> = BTreeMap::new();
        for (bound, count) in STEP_BOUNDS.iter().zip(counts) {
            below += count;
            let name = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
            step_seconds.insert(name, below as f64);
        }
        step_seconds.insert("sum".to_owned(), *sum);
        let view = RunView {
            name: self.shared.run.clone(),
            step: story.step.0,
            steps: self.shared.steps.0,
            epoch: story.epoch.0,
            epoch_because: story.epoch_because.clone(),
            epoch_since_ms: story.epoch_since_ms,
            leader: story.leader.map(node_reference).unwrap_or_default(),
            waiting,
            paused: state == "paused",
            progress_age_ms: age,
            images_per_s: story.images_per_s,
            metrics: story.metrics.clone(),
            phases: story.phases.clone(),
            ranks: story.members.len() as u32,
            lanes: story.members.iter().map(|member| member.lanes.1).max().unwrap_or(0),
            checkpoint: story.checkpoints.keys().next_back().map(|step| step.0),
            ledger: self.shared.tail.waiting().first().map_or(story.step.0, |line| line.step.0),
            moved_bytes: story.moved_bytes,
            samples: story.samples,
            step_seconds,
        };
        self.item("run".into(), String::new(), state, since, Properties::Run(view))
    }

    /// Whether this session has ended here: that an earlier one did stands in the log too.
    fn is_own_end(&self, recorded: &Recorded) -> bool {
        recorded.recorded_by == self.shared.me && matches!(recorded.event, Event::Ended { .. })
    }

    /// Whether a step takes longer than ten usual ones.
    fn stalls(&self, age_ms: u64) -> bool {
        let (counts, sum) = &self.story.step_seconds;
        let steps: u64 = counts.iter().sum();
        steps > 0 && age_ms as f64 > 10e3 * sum / steps as f64
    }

    fn node(&self) -> Item {
        let shared = self.shared;
        let record = shared.epoch();
        let member = record.as_ref().and_then(|epoch| epoch.record.everyone().find(|member| member.node == shared.me));
        let unknown = Member::new(shared.me, "", &shared.host, 0);
        let member = member.or_else(|| shared.member.get()).unwrap_or(&unknown);
        let draining = shared.draining.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let rank = self.my_rank();
        let state = match (&draining, rank, &record) {
            (Some(_), ..) => "draining",
            (None, Some(_), _) => "in",
            (None, None, Some(_)) => "standing by",
            (None, None, None) => "joining",
        };
        let usage = usage();
        let view = NodeView {
            id: shared.me.0.iter().map(|byte| format!("{byte:02x}")).collect(),
            host: member.host.clone(),
            zone: member.zone.clone(),
            address: member.address.clone(),
            pid: member.pid,
            rank,
            leads: shared.leads(),
            build: shared.build.clone(),
            started_ms: shared.started_ms,
            resident_bytes: usage.resident_bytes,
            open_files: usage.open_files,
            cpu_s: usage.cpu_s,
            heard_age_ms: 0,
            draining,
            certificate_until_ms: shared.endpoint.get().and_then(Weak::upgrade).map(|endpoint| endpoint.certificate_until_ms()),
        };
        self.item(self.me(), "run".into(), state, shared.started_ms, Properties::Node(view))
    }

    fn rank(&self) -> Option<Item> {
        let shared = self.shared;
        let rank = self.my_rank()?;
        let me = self.story.members.iter().find(|member| member.rank == rank)?;
        let placed = shared.placed();
        let bytes = |shard: &Shard| (shard.range.len() * (1 + shared.slots) * 4) as u64;
        let (mut owns, mut owned_bytes, mut copies_bytes) = (0, 0, 0);
        for place in placed.iter().flat_map(|plan| &plan.places) {
            let size = shared.shards.iter().find(|shard| shard.id == place.shard).map_or(0, bytes);
            if place.owner == Rank(rank) {
                (owns, owned_bytes) = (owns + 1, owned_bytes + size);
            } else if place.replicas.contains(&Rank(rank)) {
                copies_bytes += size;
            }
        }
        let phase = shared.phases.now();
        let state = match (phase, &self.story.waiting) {
            ("idle", _) | (_, Some(_)) => "idle",
            ("vote", None) => "waiting",
            _ => "computing",
        };
        let seconds = shared.phases.mean();
        let phases = seconds.map(|seconds| phases::NAMES.iter().map(|name| (*name).to_owned()).zip(seconds).collect());
        let view = RankView {
            rank,
            node: self.me(),
            step: self.story.step.0,
            lanes: me.lanes,
            owns,
            owned_bytes,
            copies_bytes,
            phase: self.phase().to_owned(),
            phases: phases.unwrap_or_default(),
            pace: 0.0,
        };
        Some(self.item(format!("rank/{rank}"), "run".into(), state, self.story.step_since_ms, Properties::Rank(view)))
    }

    /// The phase by what lanes do, where the rank itself only knows that they run.
    fn phase(&self) -> &'static str {
        let phase = self.shared.phases.now();
        if phase != "compute" {
            return phase;
        }
        let doing = self.shared.board.doing();
        let any = |what: Doing| doing.iter().any(|(_, doing, _)| *doing == what);
        match (any(Doing::Computing), any(Doing::Loading)) {
            (true, _) => "compute",
            (false, true) => "data",
            (false, false) => "exchange",
        }
    }

    fn actor(&self, report: ActorReport) -> Item {
        let me = self.me();
        let name = report.name;
        let at = |age: Duration| self.now.saturating_sub(age.as_millis() as u64);
        let recent = report
            .recent
            .iter()
            .map(|done| Recent { at_ms: done.at_ms, what: format!("{} in {:.3} ms", done.handler, done.took.as_secs_f64() * 1e3) });
        let reference = format!("actor/{}/{name}", self.shared.me);
        let error = report.failure.map(|failure| ErrorView {
            at_ms: failure.at_ms,
            message: failure.message,
            root_cause: failure.root_cause,
            is_propagated: !failure.root.is_empty(),
            mended_ms: failure.mended_ms,
            root: if failure.root.is_empty() { reference.clone() } else { failure.root },
        });
        let (state, since) = match (&report.handling, report.recent.last()) {
            _ if report.ended => ("failed", error.as_ref().map_or(0, |error| error.at_ms)),
            (Some((_, age)), _) => ("handling", at(*age)),
            (None, Some(done)) => ("idle", done.at_ms),
            (None, None) => ("idle", self.shared.started_ms),
        };
        let view = ActorView {
            actor_kind: if report.kind.is_empty() { name.clone() } else { report.kind.to_owned() },
            name,
            node: me.clone(),
            depth: report.depth as u64,
            high_water: report.high_water as u64,
            capacity: report.capacity as u64,
            oldest_ms: report.oldest.map(|age| age.as_millis() as u64),
            handler: report.handling.map(|(handler, _)| handler.to_owned()),
            handler_ms: report.handling.map(|(_, age)| age.as_millis() as u64),
            handled: report.handled,
            restarts: self.shared.restarts,
            error,
            recent: recent.collect(),
        };
        self.item(reference, me, state, since, Properties::Actor(view))
    }

    fn lanes(&self) -> Vec<Item> {
        let Some(rank) = self.my_rank() else { return Vec::new() };
        let lanes = self.story.members.iter().find(|member| member.rank == rank).map_or(0..0, |member| member.lanes.0..member.lanes.1);
        let doing: BTreeMap<u32, (Doing, Duration)> =
            self.shared.board.doing().into_iter().map(|(lane, doing, age)| (lane, (doing, age))).collect();
        let busy = self.shared.board.seconds();
        let item = |lane: u32| {
            let at = doing.get(&lane).copied().filter(|_| self.story.waiting.is_none());
            let (doing, age) = at.unwrap_or((Doing::Done, Duration::ZERO));
            let (state, words) = match doing {
                _ if at.is_none() => ("idle", "nothing"),
                Doing::Loading => ("loading", "waits for its batch"),
                Doing::Computing => ("computing", "computes"),
                Doing::Waiting => ("waiting", "waits for others"),
                Doing::Done => ("done", "has ended"),
            };
            let (busy_s, wait_s) = busy.get(&lane).copied().unwrap_or_default();
            let view = LaneView {
                lane,
                rank: format!("rank/{rank}"),
                step: self.story.step.0,
                doing: words.to_owned(),
                busy_s: f64::from(busy_s),
                wait_s: f64::from(wait_s),
            };
            let since = self.now.saturating_sub(age.as_millis() as u64);
            self.item(format!("lane/{lane}"), "run".into(), state, since, Properties::Lane(view))
        };
        lanes.map(item).collect()
    }

    fn links(&self) -> Vec<Item> {
        let shared = self.shared;
        let peers: Vec<_> =
            shared.links.iter().filter(|link| link.certificate().role == Role::Node).map(|link| link.value().clone()).collect();
        let item = |link: Link<Control>| {
            let stats = link.stats();
            let quiet = stats.heard_ago * 2 > stats.silence_limit;
            let view = LinkView {
                from: self.me(),
                to: node_reference(link.peer()),
                rtt_ms: stats.rtt.as_secs_f64() * 1e3,
                heard_age_ms: stats.heard_ago.as_millis() as u64,
                patience_ms: stats.silence_limit.as_millis() as u64,
                sent_bytes: stats.bytes_out,
                received_bytes: stats.bytes_in,
                lost_packets: stats.lost_packets,
                mtu: stats.mtu.into(),
                control_waiting: stats.control.depth as u64,
                data_waiting: (stats.small.depth + stats.bulk.depth) as u64,
            };
            let reference = format!("link/{}/{}", shared.me, link.peer());
            self.item(reference, self.me(), if quiet { "quiet" } else { "up" }, 0, Properties::Link(view))
        };
        peers.into_iter().map(item).collect()
    }

    /// Every shard by this epoch's plan. `steps` says how far each rank is, where it has told.
    pub(super) fn shards(&self, steps: &BTreeMap<u32, u64>) -> Vec<Item> {
        let Some(plan) = self.shared.placed() else { return Vec::new() };
        let item = |place: &crate::protocol::plan::Place| {
            let values = self.shared.shards.iter().find(|shard| shard.id == place.shard).map_or(0, |shard| shard.range.len());
            let step = |rank: &Rank| steps.get(&rank.0).copied();
            let owner = step(&place.owner);
            let oldest = place.replicas.iter().filter_map(step).min();
            let lag = owner.zip(oldest).map_or(0, |(owner, oldest)| owner.saturating_sub(oldest));
            let gone =
                |rank: &Rank| self.story.members.iter().find(|member| member.rank == rank.0).is_none_or(|member| self.is_gone(member.node));
            let held = place.copies().filter(|rank| !gone(rank)).count();
            let state = match held {
                0 => "lost",
                _ if lag > 1 || held <= place.replicas.len() => "behind",
                _ => "held",
            };
            let view = ShardView {
                unit: place.shard.unit.to_string(),
                values: values as u64,
                bytes: (values * (1 + self.shared.slots) * 4) as u64,
                owner: format!("rank/{}", place.owner.0),
                copies: place.replicas.iter().map(|rank| format!("rank/{}", rank.0)).collect(),
                step: owner.unwrap_or(self.story.step.0),
                lag,
            };
            let reference = format!("shard/{}/{}", place.shard.unit.0, place.shard.index);
            self.item(reference, "run".into(), state, self.story.epoch_since_ms, Properties::Shard(view))
        };
        plan.places.iter().map(item).collect()
    }

    fn is_gone(&self, node: NodeId) -> bool {
        node != self.shared.me && !self.shared.links.contains_key(&node)
    }

    /// The checkpoints in the store.
    pub(super) fn checkpoints(&self, listings: &[checkpoint::Listing]) -> Vec<Item> {
        listings
            .iter()
            .map(|listing| checkpoint_item(listing, &self.shared.store, self.story.checkpoints.get(&listing.step), self.now))
            .collect()
    }

    /// A member that does not answer, by what is known of it here: its node and its rank.
    pub(super) fn silent(&self, member: &Member, rank: Option<Rank>) -> Vec<Item> {
        let heard = self.shared.links.get(&member.node).map(|link| link.stats().heard_ago.as_millis() as u64);
        let told = self.story.members.iter().find(|info| info.node == member.node);
        let view = NodeView {
            id: member.node.0.iter().map(|byte| format!("{byte:02x}")).collect(),
            host: member.host.clone(),
            zone: member.zone.clone(),
            address: member.address.clone(),
            pid: member.pid,
            rank: rank.map(|rank| rank.0),
            heard_age_ms: heard.unwrap_or_else(|| self.now.saturating_sub(self.story.epoch_since_ms)),
            ..NodeView::default()
        };
        let node = self.item(node_reference(member.node), "run".into(), "silent", 0, Properties::Node(view));
        let rank = rank.map(|rank| {
            let lanes = told.map(|info| info.lanes).unwrap_or_default();
            let view = RankView { rank: rank.0, node: node_reference(member.node), lanes, phase: "unknown".into(), ..RankView::default() };
            self.item(format!("rank/{}", rank.0), "run".into(), "silent", 0, Properties::Rank(view))
        });
        std::iter::once(node).chain(rank).collect()
    }
}

/// A checkpoint in a store; `told` is what was said when it was published: bytes, seconds, stall.
pub fn checkpoint_item(listing: &checkpoint::Listing, store: &Store, told: Option<&(u64, f64, f64)>, now: u64) -> Item {
    use checkpoint::Condition;
    let state = match &listing.condition {
        Condition::Intact => "intact",
        Condition::Damaged(_) => "damaged",
        Condition::SetAside(_) => "set aside",
        Condition::NewerFormat(_) => "newer format",
    };
    let view = CheckpointView {
        step: listing.step.0,
        bytes: listing.bytes,
        parts: listing.parts,
        manifest: store.at(&checkpoint::Manifest::key(listing.step)),
        seconds: told.filter(|(bytes, ..)| *bytes > 0).map(|(_, seconds, _)| *seconds),
        stall_ms: told.filter(|(bytes, ..)| *bytes > 0).map(|(.., stall)| *stall),
    };
    Item {
        reference: format!("checkpoint/{}", listing.step.0),
        parent: "run".into(),
        children: Vec::new(),
        state: state.into(),
        since_ms: listing.published_ms,
        as_of_ms: now,
        properties: Properties::Checkpoint(view),
    }
}

struct Usage {
    resident_bytes: u64,
    open_files: u32,
    cpu_s: f64,
}

/// What the operating system says of this process; zeros where it says nothing.
fn usage() -> Usage {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let pages: u64 = read("/proc/self/statm").split_whitespace().nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    // Fields 14 and 15 of stat, counted after the name, which may hold anything.
    let stat = read("/proc/self/stat");
    let ticks: u64 = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().skip(11).take(2).filter_map(|ticks| ticks.parse::<u64>().ok()).sum())
        .unwrap_or(0);
    let open_files = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count) as u32;
    let page = rustix::param::page_size() as u64;
    let per_second = rustix::param::clock_ticks_per_second().max(1) as f64;
    Usage { resident_bytes: pages * page, open_files, cpu_s: ticks as f64 / per_second }
}
