//! Answers to operators: a node's own items, or, with those of all members, the run's. Members that stay silent are waited for once,
//! together, and named.

use super::look::Look;
use super::*;
use crate::desk::answer::select;
use crate::desk::pack::{Unreadable, pack, unpack};
use crate::desk::question::{Kind, Question};
use crate::desk::view::{Item, Properties, SCHEMA_VERSION, Scope, View};
use crate::protocol::coordinator::Outside;

/// A member that lives answers within this: it only looks at what it has.
const MEMBER_ANSWERS: Duration = Duration::from_millis(400);
/// The coordinator says within this who is there and not in the epoch.
const COORDINATOR_ANSWERS: Duration = Duration::from_millis(200);
/// The store lists checkpoints within this, or they are missing from the answer.
const STORE_ANSWERS: Duration = Duration::from_millis(300);
/// Bytes of an answer at most: what a control frame carries, less its envelope.
const ANSWER_BYTES_MAX: usize = crate::net::endpoint::CONTROL_BYTES_MAX - 1024;
/// Questions to members that wait for an answer at most.
const ASKED_MAX: usize = 1 << 16;
/// Questions that are answered at the same time, and those of one operator among them.
const ANSWERS_MAX: u32 = 64;
const ANSWERS_EACH: u32 = 8;
/// Conditions of a question at most: more no person has.
const CONDITIONS_MAX: usize = 32;

/// So many items, and an answer of so many bytes, are worked on where they are: handing them to another thread would cost more.
const FEW: usize = 128;
const SHORT: usize = 64 << 10;

/// Questions to members that have not come back: the number of the last one, and who is asked.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<(u64, BTreeMap<u64, Waiting>)>);

/// Who is asked, and who waits for the packed answer.
type Waiting = (NodeId, oneshot::Sender<Vec<u8>>);

impl Asked {
    /// Forgets those for whom nobody waits any more.
    pub(super) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1.retain(|_, (_, reply)| !reply.is_closed());
    }

    pub(super) fn put(&self, node: NodeId) -> Option<(u64, oneshot::Receiver<Vec<u8>>)> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.1.len() >= ASKED_MAX {
            return None;
        }
        asked.0 += 1;
        let number = asked.0;
        let (reply, answer) = oneshot::channel();
        asked.1.insert(number, (node, reply));
        Some((number, answer))
    }

    /// A member's answer; that of another node than the one asked is none. It is unpacked by who waits for it: a link's reader has
    /// votes to deliver.
    pub(super) fn answered(&self, from: NodeId, number: u64, packed: Vec<u8>) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.1.get(&number).is_none_or(|(node, _)| *node != from) {
            return;
        }
        let waiting = asked.1.remove(&number);
        drop(asked);
        if let Some((_, reply)) = waiting {
            // Whoever asked may have given up.
            drop(reply.send(packed));
        }
    }
}

/// Who is being answered, and how many questions of each.
#[derive(Debug, Default)]
pub(super) struct Answering(Mutex<BTreeMap<NodeId, u32>>);

impl Answering {
    /// Room for one more question of this peer.
    fn begin(self: &Arc<Self>, from: NodeId, each: u32) -> Option<Answer> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.values().sum::<u32>() >= ANSWERS_MAX {
            return None;
        }
        let own = open.entry(from).or_default();
        if *own >= each {
            return None;
        }
        *own += 1;
        Some(Answer(self.clone(), from))
    }
}

/// A question that is being answered.
struct Answer(Arc<Answering>, NodeId);

impl Drop for Answer {
    fn drop(&mut self) {
        let mut open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.1) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.1);
            }
        }
    }
}

impl Shared {
    /// Answers in a task of its own, so that nobody who computes waits for it; what is there already needs none.
    pub(super) fn answer(self: &Arc<Self>, from: NodeId, number: u64, text: String) {
        let question = serde_json::from_str::<Question>(&text);
        let turned_away = match &question {
            Ok(question) if question.filter.len() > CONDITIONS_MAX => Some(format!("a question has {CONDITIONS_MAX} conditions at most")),
            Ok(_) => None,
            Err(error) => Some(format!("the question cannot be read: {error}; use the run's own build of everstep")),
        };
        // Members ask for all operators together.
        let member = self.links.get(&from).is_none_or(|link| link.certificate().role == Role::Node);
        let answer = self.answering.begin(from, if member { ANSWERS_MAX } else { ANSWERS_EACH });
        let busy = || "too many questions are being answered: ask again".to_owned();
        let shared = self.clone();
        match (question, turned_away, answer) {
            (Ok(question), None, Some(answer)) => {
                let given = self.given.to(&question);
                if let Some(packed) = given.get() {
                    return self.offer(from, Control::Answered { number, view: packed.clone() });
                }
                drop(tokio::spawn(async move {
                    let _answer = answer;
                    let made = given.get_or_try_init(|| async { shared.look(question).await.ok_or(()) }).await;
                    // It is ending.
                    let Ok(packed) = made else { return };
                    shared.offer(from, Control::Answered { number, view: packed.clone() });
                }));
            }
            (_, because, _) => {
                let because = because.unwrap_or_else(busy);
                tracing::debug!(%from, %because, "a question was turned away");
                let packed = pack(&self.nothing(because)).unwrap_or_default();
                self.offer(from, Control::Answered { number, view: packed });
            }
        }
    }

    /// An answer without items that says why.
    fn nothing(&self, because: String) -> View {
        let (answered_by, as_of_ms) = (look::node_reference(self.me), crate::clock::wall_ms());
        let (missing, items) = (vec![because], Vec::new());
        View { schema_version: SCHEMA_VERSION, answered_by, scope: Scope::Node, as_of_ms, missing, matched: 0, items }
    }

    /// What this node knows, or all members together, packed. `None` when the node is ending.
    async fn look(self: &Arc<Self>, question: Question) -> Option<Vec<u8>> {
        let (reply, story) = oneshot::channel();
        self.tell(&self.desk, "desk", DeskMsg::Ask { reply });
        let story = story.await.ok()?;
        let now = crate::clock::wall_ms();
        let all = question.kinds.is_empty() || question.under.is_some();
        // Links are as many as pairs of members: they are told only where somebody wants them.
        let link = question.kinds.contains(&Kind::Link) || question.under.as_deref().is_some_and(|under| under != "run");
        let kinds = question.kinds.clone();
        let wanted = move |kind: Kind| if kind == Kind::Link { link } else { all || kinds.contains(&kind) };
        let look = Look { shared: self, story: &story, now };
        let mut items = look.own(&wanted);
        let mut missing = Vec::new();
        let mut listings = None;
        if !question.own {
            self.gather(&look, &question, &wanted, &mut items, &mut missing).await;
            if wanted(Kind::Run) || items.is_empty() {
                items.push(look.run());
            }
            if wanted(Kind::Checkpoint) {
                match tokio::time::timeout(STORE_ANSWERS, self.checkpoints()).await {
                    Ok(Ok(listed)) => listings = Some(listed),
                    Ok(Err(error)) => missing.push(format!("the checkpoints: {error}")),
                    Err(_) => missing.push("the checkpoints: the store does not answer".into()),
                }
            }
        }
        let shared = self.clone();
        // Shards are added there.
        let little = items.len() <= FEW && !wanted(Kind::Shard);
        let finish = move || {
            let look = Look { shared: &shared, story: &story, now };
            if !question.own {
                pace(&mut items);
                if wanted(Kind::Shard) {
                    let steps = items.iter().filter_map(|item| match &item.properties {
                        Properties::Rank(rank) if item.state != "silent" => Some((rank.rank, rank.step)),
                        _ => None,
                    });
                    let steps = steps.collect();
                    items.extend(look.shards(&steps));
                }
                items.extend(listings.iter().flat_map(|listings| look.checkpoints(listings)));
            }
            relate(&mut items);
            let scope = if shared.leads() && !question.own { Scope::Run } else { Scope::Node };
            let (items, matched) = select(items, &question);
            let answered_by = look::node_reference(shared.me);
            fitting(View { schema_version: SCHEMA_VERSION, answered_by, scope, as_of_ms: now, missing, matched, items })
        };
        here_or_aside(little, finish).await
    }

    /// Adds what the other members tell of themselves.
    async fn gather(
        self: &Arc<Self>,
        look: &Look<'_>,
        question: &Question,
        wanted: &(dyn Fn(Kind) -> bool + Send + Sync),
        items: &mut Vec<Item>,
        missing: &mut Vec<String>,
    ) {
        let Some(epoch) = self.epoch() else { return };
        // Events are here: what only one member saw it has told the leader.
        let own = [Kind::Node, Kind::Rank, Kind::Actor, Kind::Lane, Kind::Link];
        let mut kinds: Vec<Kind> = own.into_iter().filter(|kind| wanted(*kind)).collect();
        if wanted(Kind::Shard) && !kinds.contains(&Kind::Rank) {
            kinds.push(Kind::Rank);
        }
        if kinds.is_empty() {
            return;
        }
        // What is asked for by its place is found here: a member does not know what lies above it.
        let asked = Question { own: true, kinds, ..Question::default() };
        let Ok(text) = serde_json::to_string(&asked) else { return };
        // What lies under one node that node alone knows.
        let only = question.under.as_deref().and_then(|under| {
            let mut parts = under.split('/');
            parts.next().filter(|kind| matches!(*kind, "node" | "actor" | "link" | "event")).and_then(|_| parts.next())
        });
        // Who has no rank and no link has handed over what it held, and gone.
        let gone = |member: &Member| epoch.record.rank_of(member.node).is_none() && !self.links.contains_key(&member.node);
        let other = |member: &&Member| member.node != self.me && !gone(member) && only.is_none_or(|only| member.node.to_string() == only);
        let outside = self.outside(missing).await;
        let spare = |member: &&Member| !epoch.record.includes(member.node);
        let spares = outside.iter().map(|(member, _)| member).filter(spare);
        let others: Vec<&Member> = epoch.record.everyone().chain(spares).filter(other).collect();
        self.asked.clear();
        let answers = others.iter().map(|member| {
            let asked = self.links.contains_key(&member.node).then(|| self.asked.put(member.node)).flatten();
            if let Some((number, _)) = &asked {
                self.offer(member.node, Control::Ask { number: *number, question: text.clone() });
            }
            async move {
                let (_, answer) = asked?;
                let packed = tokio::time::timeout(MEMBER_ANSWERS, answer).await.ok()?.ok()?;
                here_or_aside(packed.len() <= SHORT, move || unpack(&packed)).await
            }
        });
        let answers = futures::future::join_all(answers).await;
        for (member, answer) in others.into_iter().zip(answers) {
            let name = || if epoch.record.includes(member.node) { epoch.record.name(member.node) } else { member.name() };
            let view = match answer {
                Some(Ok(view)) => view,
                Some(Err(error)) => {
                    missing.push(format!("{}: its answer cannot be read: {error}", name()));
                    continue;
                }
                None => {
                    missing.push(format!("{} does not answer", name()));
                    let known = look.silent(member, epoch.record.rank_of(member.node));
                    items.extend(known.into_iter().filter(|item| wanted(item.kind())));
                    continue;
                }
            };
            missing.extend(view.missing.iter().map(|sentence| format!("{}: {sentence}", name())));
            let heard = self.links.get(&member.node).map(|link| link.stats().heard_ago.as_millis() as u64);
            for mut item in view.items {
                if let Properties::Node(node) = &mut item.properties {
                    node.heard_age_ms = heard.unwrap_or_default();
                    // Who is not in the epoch does not know what it is to the run.
                    if let Some((_, how)) = outside.iter().find(|(other, _)| other.node == member.node && spare(&other)) {
                        in_words(*how).clone_into(&mut item.state);
                    }
                }
                items.push(item);
            }
        }
    }

    /// Who is let in and not in the epoch: known to the leader alone.
    async fn outside(&self, missing: &mut Vec<String>) -> Vec<(Member, Outside)> {
        let Some(coordinator) = self.coordinator.get().filter(|_| self.leads()) else { return Vec::new() };
        let (reply, outside) = oneshot::channel();
        // A question that finds no room is an operator's affair alone: the votes before it are not.
        drop(coordinator.try_send(CoordinatorMsg::Outside(reply)));
        match tokio::time::timeout(COORDINATOR_ANSWERS, outside).await {
            Ok(Ok(outside)) => outside,
            Ok(Err(_)) | Err(_) => {
                missing.push("nodes that stand by or wait to be let in: the coordinator is busy".into());
                Vec::new()
            }
        }
    }

    /// The checkpoints in the store, listed anew after each that was published.
    async fn checkpoints(&self) -> Result<Arc<Vec<checkpoint::Listing>>, checkpoint::CheckpointError> {
        let of = self.published.load(std::sync::atomic::Ordering::SeqCst);
        if let Some((at, listed)) = &*self.listed.lock().unwrap_or_else(PoisonError::into_inner)
            && *at == of
        {
            return Ok(listed.clone());
        }
        let listings = Arc::new(checkpoint::list(&self.store).await?);
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some((of, listings.clone()));
        Ok(listings)
    }

    /// Talk with operators may be lost: it never costs a peer its place, and half of a link's queue belongs to the run.
    pub(super) fn offer(self: &Arc<Self>, to: NodeId, message: Control) {
        if to == self.me {
            return self.route(to, message);
        }
        let Some(link) = self.links.get(&to).map(|link| link.clone()) else { return };
        let queue = link.stats().control;
        if queue.depth * 2 >= queue.capacity || link.try_control(&message).is_err() {
            tracing::debug!(%to, "a question or an answer was dropped: the link is busy");
        }
    }
}

/// Thousands of items are related, filtered and packed beside the runtime that carries votes and heartbeats; little is done here.
async fn here_or_aside<T: Send + 'static>(little: bool, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    if little { Some(work()) } else { aside(work).await.ok() }
}

fn in_words(how: Outside) -> &'static str {
    match how {
        Outside::Waits => "waiting",
        Outside::StandsBy => "standing by",
        Outside::Leaves => "draining",
    }
}

/// How fast each rank computes a lane, against the median rank.
fn pace(items: &mut [Item]) {
    let seconds = |item: &Item| match &item.properties {
        Properties::Rank(rank) => {
            let lanes = f64::from(rank.lanes.1.saturating_sub(rank.lanes.0));
            rank.phases.get("compute").filter(|_| lanes > 0.0).map(|compute| compute / lanes)
        }
        _ => None,
    };
    let mut all: Vec<f64> = items.iter().filter_map(seconds).collect();
    all.sort_by(f64::total_cmp);
    let Some(median) = all.get(all.len() / 2).copied().filter(|median| *median > 0.0) else { return };
    for item in items {
        let own = seconds(item);
        if let (Properties::Rank(rank), Some(own)) = (&mut item.properties, own) {
            rank.pace = own / median;
        }
    }
}

/// Fills in who belongs to whom.
fn relate(items: &mut [Item]) {
    let mut children: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for item in items.iter() {
        children.entry(item.parent.clone()).or_default().push(item.reference.clone());
        // A rank lies on a node, lanes and shards with a rank.
        let home = match &item.properties {
            Properties::Rank(rank) => &rank.node,
            Properties::Lane(lane) => &lane.rank,
            Properties::Shard(shard) => &shard.owner,
            _ => continue,
        };
        children.entry(home.clone()).or_default().push(item.reference.clone());
    }
    for item in items {
        // Events are many: they are found by their parent.
        let of = children.remove(&item.reference).unwrap_or_default();
        item.children = of.into_iter().filter(|child| !child.starts_with("event/")).collect();
    }
}

/// The view, packed, as it fits into a control frame and as its asker unpacks it: what is too much is left off and counted.
fn fitting(mut view: View) -> Vec<u8> {
    loop {
        let keep = match pack(&view) {
            Ok(packed) if packed.len() <= ANSWER_BYTES_MAX || view.items.is_empty() => return packed,
            Ok(packed) => view.items.len() * ANSWER_BYTES_MAX / packed.len() * 9 / 10,
            Err(Unreadable::Endless) if !view.items.is_empty() => view.items.len() / 2,
            // Memory takes it: an empty answer is none.
            Err(_) => return Vec::new(),
        };
        view.missing.retain(|sentence| !sentence.contains("do not fit into one answer"));
        view.items.truncate(keep);
        let off = view.matched.saturating_sub(keep as u64);
        view.missing.push(format!("{off} items do not fit into one answer: narrow the question by kind, --filter or reference"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::view::EventView;

    #[test]
    fn an_answer_that_packs_small_and_unpacks_too_large_is_cut_so_that_it_can_be_read() {
        let item = |n: u32| Item {
            reference: format!("event/n0/{n}"),
            parent: String::new(),
            children: Vec::new(),
            state: "info".into(),
            since_ms: 0,
            as_of_ms: 0,
            properties: Properties::Event(EventView { text: "x".repeat(30 << 20), ..EventView::default() }),
        };
        let items: Vec<Item> = (0..3).map(item).collect();
        let (answered_by, matched) = ("node/n0".to_owned(), 3);
        let view =
            View { schema_version: SCHEMA_VERSION, answered_by, scope: Scope::Run, as_of_ms: 0, missing: Vec::new(), matched, items };
        let read = unpack(&fitting(view)).unwrap();
        assert_eq!((read.items.len(), read.matched), (1, 3));
        assert_eq!(read.missing, ["2 items do not fit into one answer: narrow the question by kind, --filter or reference"]);
    }
}
