//! The columns of each kind's table.

use everstep_actors::desk::question::Kind;
use everstep_actors::desk::view::{
    ActorView, CheckpointView, EventView, Item, LaneView, LinkView, NodeView, Properties, RankView, RunView, ShardView,
};

use crate::report::{bytes, names};
use crate::views::human::{age, bare, brief, brief_seconds, clock, date, or_dash};

/// Cells as they come, with their headings; those that only wide tables have are left out of others.
struct Row {
    wide: bool,
    now_ms: u64,
    cells: Vec<(&'static str, String)>,
}

impl Row {
    fn put(&mut self, heading: &'static str, text: impl Into<String>) {
        self.cells.push((heading, text.into()));
    }

    fn number(&mut self, heading: &'static str, number: u64) {
        self.put(heading, number.to_string());
    }

    fn wide(&mut self, heading: &'static str, text: impl Into<String>) {
        if self.wide {
            self.put(heading, text);
        }
    }

    fn age(&mut self, heading: &'static str, at_ms: u64) {
        let age = age(at_ms, self.now_ms);
        self.put(heading, age);
    }
}

/// Whether the kinds of actors say nothing that their names do not: then a narrow table has room for something better.
pub(super) fn kinds_are_names(items: &[&Item]) -> bool {
    !items.is_empty() && items.iter().all(|item| matches!(&item.properties, Properties::Actor(actor) if actor.name == actor.actor_kind))
}

/// What a table does without where lines are short, first what is missed least.
pub(super) fn spare(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Run => &["CHECKPOINT", "RANKS", "EPOCH"],
        Kind::Node => &["CPU"],
        Kind::Rank => &["UPDATE", "DATA", "VOTE"],
        Kind::Actor => &["KIND", "RESTARTS", "HWM"],
        Kind::Link => &["PATIENCE", "WAITING"],
        Kind::Lane | Kind::Shard | Kind::Checkpoint | Kind::Event => &[],
    }
}

/// The first row.
pub(super) fn headings(kind: Kind, wide: bool) -> Vec<String> {
    let properties = match kind {
        Kind::Run => Properties::Run(RunView::default()),
        Kind::Node => Properties::Node(NodeView::default()),
        Kind::Rank => Properties::Rank(RankView::default()),
        Kind::Actor => Properties::Actor(ActorView::default()),
        Kind::Lane => Properties::Lane(LaneView::default()),
        Kind::Shard => Properties::Shard(ShardView::default()),
        Kind::Checkpoint => Properties::Checkpoint(CheckpointView::default()),
        Kind::Event => Properties::Event(EventView::default()),
        Kind::Link => Properties::Link(LinkView::default()),
    };
    let (reference, parent, state) = (String::new(), String::new(), String::new());
    let blank = Item { reference, parent, children: Vec::new(), state, since_ms: 0, as_of_ms: 0, properties };
    row(&blank, 0, wide).cells.into_iter().map(|(heading, _)| heading.to_owned()).collect()
}

/// The row of an item.
pub(super) fn cells(item: &Item, now_ms: u64, wide: bool) -> Vec<String> {
    row(item, now_ms, wide).cells.into_iter().map(|(_, cell)| cell).collect()
}

fn row(item: &Item, now_ms: u64, wide: bool) -> Row {
    let mut row = Row { wide, now_ms, cells: Vec::new() };
    match &item.properties {
        Properties::Run(view) => run(&mut row, item, view),
        Properties::Node(view) => node(&mut row, item, view),
        Properties::Rank(view) => rank(&mut row, item, view),
        Properties::Actor(view) => actor(&mut row, item, view),
        Properties::Lane(view) => lane(&mut row, item, view),
        Properties::Shard(view) => shard(&mut row, item, view),
        Properties::Checkpoint(view) => checkpoint(&mut row, item, view),
        Properties::Event(view) => event(&mut row, item, view),
        Properties::Link(view) => link(&mut row, item, view),
    }
    if !matches!(item.properties, Properties::Event(_)) {
        row.wide("SINCE", date(item.since_ms));
        row.wide("AS-OF", date(item.as_of_ms));
    }
    row.wide("REFERENCE", item.reference.as_str());
    row
}

fn run(row: &mut Row, item: &Item, view: &RunView) {
    row.put("NAME", view.name.as_str());
    row.put("STATE", item.state.as_str());
    row.put("STEP", format!("{}/{}", view.step, view.steps));
    row.number("EPOCH", view.epoch);
    row.put("LEADER", or_dash(bare(&view.leader)));
    row.number("RANKS", view.ranks.into());
    row.wide("LANES", view.lanes.to_string());
    row.put("IMAGES/S", format!("{:.0}", view.images_per_s));
    row.put("LOSS", view.metrics.get(names::LOSS).map_or_else(|| "-".into(), |loss| format!("{loss:.3}")));
    row.put("PROGRESS", brief(view.progress_age_ms));
    row.put("CHECKPOINT", optional(view.checkpoint));
    row.wide("LEDGER", view.ledger.to_string());
    row.put("WAITING", view.waiting.clone().unwrap_or_else(|| "-".into()));
    row.wide("EPOCH-BECAUSE", or_dash(&view.epoch_because));
    row.wide("EPOCH-SINCE", date(view.epoch_since_ms));
    row.wide("MOVED", bytes(view.moved_bytes));
    row.wide("SAMPLES", view.samples.to_string());
}

fn node(row: &mut Row, item: &Item, view: &NodeView) {
    row.put("NODE", bare(&item.reference));
    row.put("STATE", item.state.as_str());
    let leads = if view.leads { " leads" } else { "" };
    row.put("RANK", format!("{}{leads}", optional(view.rank)));
    row.put("HOST", or_dash(&view.host));
    row.wide("ZONE", or_dash(&view.zone));
    row.put("HEARD", if view.leads { "-".into() } else { brief(view.heard_age_ms) });
    row.put("RSS", bytes(view.resident_bytes));
    row.put("CPU", brief_seconds(view.cpu_s));
    row.age("AGE", view.started_ms);
    row.wide("ADDRESS", or_dash(&view.address));
    row.wide("PID", view.pid.to_string());
    row.wide("FILES", view.open_files.to_string());
    row.wide("BUILD", or_dash(&view.build));
    row.wide("CERTIFICATE-UNTIL", view.certificate_until_ms.map_or_else(|| "-".into(), date));
    row.wide("DRAINING", view.draining.clone().unwrap_or_else(|| "-".into()));
    row.wide("ID", view.id.as_str());
}

fn rank(row: &mut Row, item: &Item, view: &RankView) {
    row.number("RANK", view.rank.into());
    row.put("STATE", item.state.as_str());
    row.put("PHASE", or_dash(&view.phase));
    row.put("NODE", or_dash(bare(&view.node)));
    row.put("LANES", format!("{}..{}", view.lanes.0, view.lanes.1));
    row.number("STEP", view.step);
    row.put("PACE", format!("{:.2}", view.pace));
    let phase = |name: &str| view.phases.get(name).map_or_else(|| "-".into(), |seconds| brief_seconds(*seconds));
    for (heading, name) in [("DATA", "data"), ("COMPUTE", "compute"), ("EXCHANGE", "exchange"), ("UPDATE", "update"), ("VOTE", "vote")] {
        row.put(heading, phase(name));
    }
    row.wide("OWNS", view.owns.to_string());
    row.wide("OWNED", bytes(view.owned_bytes));
    row.wide("COPIES", bytes(view.copies_bytes));
}

fn actor(row: &mut Row, item: &Item, view: &ActorView) {
    row.put("ACTOR", view.name.as_str());
    row.put("KIND", view.actor_kind.as_str());
    row.put("NODE", or_dash(bare(&view.node)));
    row.put("STATE", item.state.as_str());
    row.put("MBOX", format!("{}/{}", view.depth, view.capacity));
    row.number("HWM", view.high_water);
    row.put("OLDEST", view.oldest_ms.map_or_else(|| "-".into(), brief));
    let since = view.handler_ms.map(|ms| format!(" {}", brief(ms))).unwrap_or_default();
    row.put("HANDLER", view.handler.as_ref().map_or_else(|| "-".into(), |handler| format!("{handler}{since}")));
    row.number("MSGS", view.handled);
    row.number("RESTARTS", view.restarts.into());
    let error = view.error.as_ref();
    let of_error = |text: fn(&everstep_actors::desk::view::ErrorView) -> String| error.map_or_else(|| "-".into(), text);
    let mended = |error: &everstep_actors::desk::view::ErrorView| if error.mended_ms.is_some() { "mended: " } else { "" };
    row.put("LAST-ERR", error.map_or_else(|| "-".into(), |error| format!("{}{}", mended(error), error.message)));
    row.wide("ROOT-CAUSE", of_error(|error| error.root_cause.clone()));
    row.wide("ROOT", of_error(|error| error.root.clone()));
    row.wide("PROPAGATED", of_error(|error| if error.is_propagated { "yes" } else { "no" }.into()));
    row.wide("ERR-AT", of_error(|error| date(error.at_ms)));
    row.wide("RECENT", view.recent.last().map_or_else(|| "-".into(), |last| last.what.clone()));
}

fn lane(row: &mut Row, item: &Item, view: &LaneView) {
    row.number("LANE", view.lane.into());
    row.put("STATE", item.state.as_str());
    row.put("RANK", or_dash(bare(&view.rank)));
    row.number("STEP", view.step);
    row.put("DOING", or_dash(&view.doing));
    row.put("BUSY", brief_seconds(view.busy_s));
    row.put("WAIT", brief_seconds(view.wait_s));
}

fn shard(row: &mut Row, item: &Item, view: &ShardView) {
    row.put("SHARD", bare(&item.reference));
    row.put("STATE", item.state.as_str());
    row.put("OWNER", or_dash(bare(&view.owner)));
    let copies: Vec<&str> = view.copies.iter().map(|rank| bare(rank)).collect();
    row.put("COPIES", or_dash(&copies.join(",")));
    row.number("STEP", view.step);
    row.number("LAG", view.lag);
    row.number("VALUES", view.values);
    row.put("BYTES", bytes(view.bytes));
    row.wide("UNIT", view.unit.as_str());
}

fn checkpoint(row: &mut Row, item: &Item, view: &CheckpointView) {
    row.number("STEP", view.step);
    row.put("STATE", item.state.as_str());
    row.put("BYTES", bytes(view.bytes));
    row.number("PARTS", view.parts.into());
    row.put("TOOK", view.seconds.map_or_else(|| "-".into(), brief_seconds));
    row.put("STALL", view.stall_ms.map_or_else(|| "-".into(), |ms| brief_seconds(ms / 1e3)));
    row.age("AGE", item.since_ms);
    row.wide("MANIFEST", or_dash(&view.manifest));
}

fn event(row: &mut Row, item: &Item, view: &EventView) {
    row.put("TIME", if row.wide { date(view.at_ms) } else { clock(view.at_ms) });
    row.put("EPOCH", optional(view.epoch));
    row.put("STEP", optional(view.step));
    row.put("SEV", or_dash(&view.severity));
    row.put("EVENT", view.event.as_str());
    row.wide("NODE", or_dash(bare(&view.recorded_by)));
    row.put("TEXT", if view.text.is_empty() { item.state.as_str() } else { view.text.as_str() });
}

fn link(row: &mut Row, item: &Item, view: &LinkView) {
    row.put("FROM", or_dash(bare(&view.from)));
    row.put("TO", or_dash(bare(&view.to)));
    row.put("STATE", item.state.as_str());
    row.put("RTT", if view.rtt_ms < 10.0 { format!("{:.1}ms", view.rtt_ms) } else { brief_seconds(view.rtt_ms / 1e3) });
    row.put("HEARD", brief(view.heard_age_ms));
    row.put("PATIENCE", brief(view.patience_ms));
    row.put("SENT", bytes(view.sent_bytes));
    row.put("RECEIVED", bytes(view.received_bytes));
    row.number("LOST", view.lost_packets);
    row.wide("MTU", view.mtu.to_string());
    row.put("WAITING", format!("{}+{}", view.control_waiting, view.data_waiting));
}

fn optional(number: Option<impl ToString>) -> String {
    number.map_or_else(|| "-".into(), |number| number.to_string())
}
