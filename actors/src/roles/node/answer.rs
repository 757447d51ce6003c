//! Answers to operators: a node's own items, or, with those of all members, the run's. Members that stay silent are waited for once,
//! together, and named.

use super::look::Look;
use super::*;
use crate::desk::answer::select;
use crate::desk::pack::{pack, unpack};
use crate::desk::question::{Kind, Question};
use crate::desk::view::{Item, Properties, SCHEMA_VERSION, Scope, View};

/// A member that lives answers within this: it only looks at what it has.
const MEMBER_ANSWERS: Duration = Duration::from_millis(400);
/// Bytes of an answer at most: what a control frame carries, less its envelope.
const ANSWER_BYTES_MAX: usize = crate::net::endpoint::CONTROL_BYTES_MAX - 1024;
/// Questions that wait for members' answers at most.
const ASKED_MAX: usize = 4_096;

/// Questions to members that have not come back.
#[derive(Debug, Default)]
pub(super) struct Asked(Mutex<(u64, BTreeMap<u64, (NodeId, oneshot::Sender<View>)>)>);

impl Asked {
    fn put(&self, node: NodeId) -> Option<(u64, oneshot::Receiver<View>)> {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.1.retain(|_, (_, reply)| !reply.is_closed());
        if asked.1.len() >= ASKED_MAX {
            return None;
        }
        asked.0 += 1;
        let number = asked.0;
        let (reply, answer) = oneshot::channel();
        asked.1.insert(number, (node, reply));
        Some((number, answer))
    }

    /// A member's answer; that of another node than the one asked is none.
    pub(super) fn answered(&self, from: NodeId, number: u64, view: &[u8]) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.1.get(&number).is_none_or(|(node, _)| *node != from) {
            return;
        }
        let Some((_, reply)) = asked.1.remove(&number) else { return };
        match unpack(view) {
            // Whoever asked may have given up.
            Ok(view) => drop(reply.send(view)),
            Err(error) => tracing::warn!(%from, %error, "a member's answer cannot be read"),
        }
    }
}

impl Shared {
    /// Answers in a task of its own: nobody who computes waits for it.
    pub(super) fn answer(self: &Arc<Self>, from: NodeId, number: u64, question: &str) {
        let question = match serde_json::from_str::<Question>(question) {
            Ok(question) => question,
            Err(error) => {
                tracing::warn!(%from, %error, "a question cannot be read");
                return;
            }
        };
        let Ok(permit) = self.answering.clone().try_acquire_owned() else {
            tracing::warn!(%from, "a question was turned away: too many are being answered");
            return;
        };
        let shared = self.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let Some(view) = shared.look(&question).await else { return };
            let view = fitting(view);
            shared.send(from, Control::Answered { number, view });
        });
    }

    /// What this node knows, or all members together. `None` when the node is ending.
    async fn look(self: &Arc<Self>, question: &Question) -> Option<View> {
        let (reply, story) = oneshot::channel();
        self.tell(&self.desk, "desk", DeskMsg::Ask { reply });
        let story = story.await.ok()?;
        let now = crate::clock::wall_ms();
        let all = question.kinds.is_empty() || question.under.is_some();
        // Links are as many as pairs of members: they are told only where somebody wants them.
        let link = question.kinds.contains(&Kind::Link) || question.under.as_deref().is_some_and(|under| under != "run");
        let wanted = |kind: Kind| if kind == Kind::Link { link } else { all || question.kinds.contains(&kind) };
        let look = Look { shared: self, story: &story, now };
        let mut items = look.own(&wanted);
        let mut missing = Vec::new();
        if !question.own {
            self.gather(&look, question, &wanted, &mut items, &mut missing).await;
            if wanted(Kind::Run) || items.is_empty() {
                items.push(look.run());
            }
            pace(&mut items);
            if wanted(Kind::Shard) {
                let steps = items.iter().filter_map(|item| match &item.properties {
                    Properties::Rank(rank) if item.state != "silent" => Some((rank.rank, rank.step)),
                    _ => None,
                });
                let steps = steps.collect();
                items.extend(look.shards(&steps));
            }
            if wanted(Kind::Checkpoint) {
                match self.checkpoints().await {
                    Ok(listings) => items.extend(look.checkpoints(&listings)),
                    Err(error) => missing.push(format!("the checkpoints: {error}")),
                }
            }
        }
        relate(&mut items);
        let scope = if self.leads() && !question.own { Scope::Run } else { Scope::Node };
        let (items, matched) = select(items, question);
        let answered_by = look::node_reference(self.me);
        Some(View { schema_version: SCHEMA_VERSION, answered_by, scope, as_of_ms: now, missing, matched, items })
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
        let own = [Kind::Node, Kind::Rank, Kind::Actor, Kind::Lane, Kind::Event, Kind::Link];
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
        // Who has no rank and no link has handed over what it held, and gone.
        let gone = |member: &Member| epoch.record.rank_of(member.node).is_none() && !self.links.contains_key(&member.node);
        let others: Vec<&Member> = epoch.record.everyone().filter(|member| member.node != self.me && !gone(member)).collect();
        let answers = others.iter().map(|member| {
            let asked = self.links.contains_key(&member.node).then(|| self.asked.put(member.node)).flatten();
            if let Some((number, _)) = &asked {
                self.send(member.node, Control::Ask { number: *number, question: text.clone() });
            }
            async move {
                match asked {
                    Some((_, answer)) => tokio::time::timeout(MEMBER_ANSWERS, answer).await.ok().and_then(Result::ok),
                    None => None,
                }
            }
        });
        let answers = futures::future::join_all(answers).await;
        let mut known: BTreeSet<(String, String)> = items.iter().filter_map(news).collect();
        for (member, answer) in others.into_iter().zip(answers) {
            let Some(view) = answer else {
                missing.push(format!("{} does not answer", epoch.record.name(member.node)));
                items.extend(look.silent(member, epoch.record.rank_of(member.node)).into_iter().filter(|item| wanted(item.kind())));
                continue;
            };
            let heard = self.links.get(&member.node).map(|link| link.stats().heard_ago.as_millis() as u64);
            for mut item in view.items {
                if let Properties::Node(node) = &mut item.properties {
                    node.heard_age_ms = heard.unwrap_or_default();
                }
                // All members tell of the same epochs and checkpoints: once is enough.
                if news(&item).is_none_or(|news| known.insert(news)) {
                    items.push(item);
                }
            }
        }
        if question.kinds.contains(&Kind::Event) || question.kinds.is_empty() {
            items.sort_by_key(|item| item.since_ms);
        }
    }

    /// The checkpoints in the store, listed anew after each that was published.
    async fn checkpoints(&self) -> Result<Arc<Vec<checkpoint::Listing>>, checkpoint::CheckpointError> {
        if let Some(listed) = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone() {
            return Ok(listed);
        }
        let listings = Arc::new(checkpoint::list(&self.store).await?);
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(listings.clone());
        Ok(listings)
    }
}

/// What makes an event the same as that of another member.
fn news(item: &Item) -> Option<(String, String)> {
    match &item.properties {
        Properties::Event(event) => Some((event.event.clone(), event.text.clone())),
        _ => None,
    }
}

/// How fast each rank computes a lane, against the median rank.
fn pace(items: &mut [Item]) {
    let seconds = |item: &Item| match &item.properties {
        Properties::Rank(rank) => {
            let lanes = f64::from(rank.lanes.1 - rank.lanes.0);
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

/// The view, packed, as it fits into a control frame: what is too much is left off and counted.
fn fitting(mut view: View) -> Vec<u8> {
    loop {
        // Memory takes it: an empty answer is none.
        let packed = pack(&view).unwrap_or_default();
        if packed.len() <= ANSWER_BYTES_MAX {
            return packed;
        }
        let keep = view.items.len() * ANSWER_BYTES_MAX / packed.len() * 9 / 10;
        view.missing.retain(|sentence| !sentence.contains("do not fit into one answer"));
        view.items.truncate(keep);
        let off = view.matched.saturating_sub(keep as u64);
        view.missing.push(format!("{off} items do not fit into one answer: narrow the question by kind, --filter or reference"));
    }
}
