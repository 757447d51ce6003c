//! From a rank, a node, an actor or a link on to what keeps it.

use everstep_actors::desk::view::{ActorView, Item, LinkView, NodeView, Properties, RankView};

use super::{Walk, ms};

/// A handler that is at work for longer than this is worth a look while the run waits.
const AT_WORK_MS: u64 = 1_000;
/// A failure that is older than this explains nothing that is going on now.
const RECENT_MS: u64 = 300_000;
/// Root causes of root causes that are followed.
const DEPTH_MAX: usize = 8;

impl Walk<'_> {
    /// A rank keeps others waiting.
    pub(super) fn blame_rank(&mut self, item: &Item, rank: &RankView, says: &str) {
        if self.to(&item.reference, says) {
            self.blame_node(&rank.node, Some(rank.rank));
        }
    }

    /// Something lies on this node.
    pub(super) fn blame_node(&mut self, reference: &str, rank: Option<u32>) {
        let Some((node_item, node)) = self.node(reference) else {
            self.to(reference, "is not in the answer: nobody could be asked about it");
            self.fault(reference, "see `everstep history --incidents`, and whether its machine is up");
            return;
        };
        if node_item.state == "silent" {
            let says = format!("silent: last heard {} ago ({} at {}, pid {})", ms(node.heard_age_ms), node.host, node.address, node.pid);
            self.to(reference, says);
            return self.fault(reference, silent(node));
        }
        if let Some(because) = &node.draining {
            self.to(reference, format!("it leaves: {because}"));
            return self.fault(reference, "it goes when its shards are with others; `everstep undrain` lets it stay");
        }
        if let Some((item, actor)) = self.worst_actor(|actor| actor.node == reference) {
            self.to(reference, format!("{}, on {}, process {}", in_words(&node_item.state), node.host, node.pid));
            return self.blame_actor(item, actor);
        }
        if let Some((item, link)) = self.quietest(|link| link.from == reference || link.to == reference) {
            return self.blame_link(item, link);
        }
        let work = rank.map_or("no actor of it is stuck", |_| "it is at work, no actor of it is stuck");
        self.to(reference, format!("{}, on {}: {work}", in_words(&node_item.state), node.host));
    }

    /// An actor is stuck, full or failed.
    pub(super) fn blame_actor(&mut self, item: &Item, actor: &ActorView) {
        let (mut item, mut actor) = (item, actor);
        for _ in 0..DEPTH_MAX {
            if !self.to(&item.reference, actor_says(actor, &item.state)) {
                return;
            }
            let Some(error) = actor.trouble().filter(|error| item.state == "failed" || self.is_recent(error.at_ms)) else { break };
            if error.root.is_empty() || error.root == item.reference {
                break;
            }
            let root = error.root.clone();
            match self.item(&root).map(|item| (item, &item.properties)) {
                Some((next, Properties::Actor(further))) => (item, actor) = (next, further),
                Some((next, Properties::Link(link))) => return self.blame_link(next, link),
                Some((_, Properties::Node(_))) => return self.blame_node(&root, None),
                Some((next, Properties::Rank(rank))) => return self.blame_rank(next, rank, &error.root_cause.clone()),
                _ => {
                    self.to(&root, error.root_cause.clone());
                    return self.fault(&root, format!("see `everstep describe {root}`"));
                }
            }
        }
        let reference = item.reference.clone();
        let node = &actor.node;
        let remedy = if item.state == "failed" {
            format!("{node} leaves the run and its launcher starts another one in its place; if that repeats, send us `everstep bundle`")
        } else if actor.handler.is_some() {
            format!("see `everstep describe {reference}`; `everstep kill {node} --yes` lets the others go on without it")
        } else {
            format!("more comes to it than it handles: see who sends it with `everstep describe {reference}`")
        };
        self.fault(&reference, remedy);
    }

    /// A connection is quiet.
    pub(super) fn blame_link(&mut self, item: &Item, link: &LinkView) {
        let heard = format!("nothing heard for {}, given up after {}", ms(link.heard_age_ms), ms(link.patience_ms));
        self.to(&item.reference, format!("{}: {heard}; {} messages wait to be sent", item.state, link.control_waiting + link.data_waiting));
        if let Some((other, node)) = self.node(&link.to).filter(|(other, _)| other.state == "silent") {
            let remedy = silent(node);
            self.to(&other.reference, format!("silent: last heard {} ago ({} at {})", ms(node.heard_age_ms), node.host, node.address));
            return self.fault(&other.reference, remedy);
        }
        self.fault(
            &item.reference,
            format!("see that UDP passes between {} and {} both ways; members meet again by themselves", link.from, link.to),
        );
    }
}

impl<'a> Walk<'a> {
    /// A node of the view.
    pub(super) fn node(&self, reference: &str) -> Option<(&'a Item, &'a NodeView)> {
        match self.view.item(reference).map(|item| (item, &item.properties)) {
            Some((item, Properties::Node(node))) => Some((item, node)),
            _ => None,
        }
    }

    /// The actor that is most likely at fault among some: one that failed, else the longest at work, else the fullest.
    pub(super) fn worst_actor(&self, of: impl Fn(&ActorView) -> bool) -> Option<(&'a Item, &'a ActorView)> {
        let actors = self.view.items.iter().filter_map(|item| match &item.properties {
            Properties::Actor(actor) if of(actor) => Some((item, actor)),
            _ => None,
        });
        let scored = actors.map(|(item, actor)| (self.score(&item.state, actor), item, actor)).filter(|(score, _, _)| *score > (0, 0));
        scored.max_by(|a, b| a.0.cmp(&b.0).then_with(|| b.1.reference.cmp(&a.1.reference))).map(|(_, item, actor)| (item, actor))
    }

    fn score(&self, state: &str, actor: &ActorView) -> (u8, u64) {
        let at_work = actor.handler_ms.filter(|age| actor.handler.is_some() && *age >= AT_WORK_MS);
        let waits = actor.oldest_ms.filter(|age| *age >= AT_WORK_MS);
        let full = actor.capacity > 0 && actor.depth.saturating_mul(2) >= actor.capacity;
        let failed = actor.trouble().filter(|error| self.is_recent(error.at_ms));
        match (state, at_work, full, waits, failed) {
            ("failed", ..) => (5, 0),
            (_, Some(age), ..) => (4, age),
            (_, _, true, ..) => (3, actor.depth),
            (_, _, _, Some(age), _) => (2, age),
            (.., Some(error)) => (1, error.at_ms),
            _ => (0, 0),
        }
    }

    /// The link that has not heard for longest, if that is more than half of its patience.
    pub(super) fn quietest(&self, of: impl Fn(&LinkView) -> bool) -> Option<(&'a Item, &'a LinkView)> {
        let links = self.view.items.iter().filter_map(|item| match &item.properties {
            Properties::Link(link) if of(link) => Some((item, link)),
            _ => None,
        });
        let quiet = links.filter(|(item, link)| item.state == "quiet" || is_quiet(link));
        quiet.max_by(|a, b| a.1.heard_age_ms.cmp(&b.1.heard_age_ms).then_with(|| b.0.reference.cmp(&a.0.reference)))
    }

    fn is_recent(&self, at_ms: u64) -> bool {
        self.view.as_of_ms.saturating_sub(at_ms) <= RECENT_MS
    }
}

/// Whether more than half of a link's patience has passed in silence.
fn is_quiet(link: &LinkView) -> bool {
    link.patience_ms > 0 && link.heard_age_ms.saturating_mul(2) >= link.patience_ms
}

fn in_words(state: &str) -> &str {
    if state == "in" { "in the run" } else { state }
}

fn silent(node: &NodeView) -> String {
    let NodeView { host, address, .. } = node;
    format!("see that {host} is up and {address} can be reached by UDP; the others go on without it, or start another node in its place")
}

/// What an actor shows of itself.
pub(super) fn actor_says(actor: &ActorView, state: &str) -> String {
    let mut says = vec![state.to_owned()];
    if let Some(handler) = &actor.handler {
        says = vec![format!("at work in `{handler}`{}", actor.handler_ms.map(|age| format!(" for {}", ms(age))).unwrap_or_default())];
    }
    if actor.depth > 0 {
        let oldest = actor.oldest_ms.map(|age| format!(", oldest {}", ms(age))).unwrap_or_default();
        says.push(format!("{} of {} messages wait{oldest}", actor.depth, actor.capacity));
    }
    if let Some(error) = actor.trouble() {
        let cause = if error.root_cause.is_empty() || error.root_cause == error.message {
            String::new()
        } else {
            format!(", because {}", error.root_cause)
        };
        says.push(format!("last failure: {}{cause}", error.message));
    }
    says.join("; ")
}
