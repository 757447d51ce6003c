//! What the run was last seen to be, shared by all who ask: however many look, the run is asked once a second for each part at most.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use everstep_actors::desk::answer::select;
use everstep_actors::desk::question::{Kind, Question};
use everstep_actors::desk::view::View;
use everstep_actors::event::Recorded;
use tokio::time::Instant;

use crate::desk::eye::Eye;
use crate::metrics::MANY_NODES;

/// For how long a look is good.
const FRESH: Duration = Duration::from_millis(900);

/// For how long the list of events is good, at least; reading it takes a twentieth of the time at most.
const EVENTS_FRESH: Duration = Duration::from_secs(4);

/// How many different parts are remembered.
const PARTS: usize = 64;

/// Kinds that are asked for together; links also by what they lie under.
type Part = (Vec<Kind>, Option<String>);

const OVERVIEW: [Kind; 4] = [Kind::Run, Kind::Node, Kind::Rank, Kind::Checkpoint];

/// One answer and when it was made. Who asks while another asks waits for the same answer.
#[derive(Debug)]
struct Slot<T>(tokio::sync::Mutex<Option<Held<T>>>);

#[derive(Debug)]
struct Held<T> {
    until: Instant,
    answer: Result<Arc<T>, String>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(tokio::sync::Mutex::new(None))
    }
}

impl<T> Slot<T> {
    async fn get(&self, fresh: Duration, share: u32, make: impl Future<Output = Result<T, String>>) -> Result<Arc<T>, String> {
        let mut held = self.0.lock().await;
        if let Some(held) = held.as_ref().filter(|held| Instant::now() < held.until) {
            return held.answer.clone();
        }
        let began = Instant::now();
        let answer = make.await.map(Arc::new);
        let until = Instant::now() + fresh.max(began.elapsed() * share);
        *held = Some(Held { until, answer: answer.clone() });
        answer
    }
}

/// The run as all see it.
pub(super) struct Sight {
    eye: Arc<dyn Eye>,
    parts: Mutex<BTreeMap<Part, Arc<Slot<View>>>>,
    events: Slot<Vec<Recorded>>,
}

impl std::fmt::Debug for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sight").finish_non_exhaustive()
    }
}

impl Sight {
    pub(super) fn new(eye: Arc<dyn Eye>) -> Self {
        Self { eye, parts: Mutex::default(), events: Slot::default() }
    }

    /// Run, nodes, ranks and checkpoints.
    pub(super) async fn overview(&self) -> Result<Arc<View>, String> {
        self.part((OVERVIEW.to_vec(), None)).await
    }

    /// All that is durable of what happened.
    pub(super) async fn events(&self) -> Result<Arc<Vec<Recorded>>, String> {
        let read = async { self.eye.events().await.map_err(|failure| failure.sentence) };
        self.events.get(EVENTS_FRESH, 20, read).await
    }

    /// The answer to a question, made here from what was seen last.
    pub(super) async fn view(&self, question: &Question) -> Result<View, String> {
        let overview = self.overview().await?;
        let mut view = View { items: Vec::new(), ..(*overview).clone() };
        let wanted = |kind: Kind| question.kinds.is_empty() || question.kinds.contains(&kind);
        // What lies under something may hang on a node or a rank that was not asked for.
        if question.under.is_some() || OVERVIEW.into_iter().any(wanted) {
            view.items.extend(overview.items.iter().cloned());
        }
        let nodes = overview.items.iter().filter(|item| item.kind() == Kind::Node).count();
        for kind in [Kind::Actor, Kind::Lane, Kind::Shard, Kind::Event, Kind::Link].into_iter().filter(|kind| wanted(*kind)) {
            let under = question.under.clone().filter(|under| kind == Kind::Link && under.starts_with("node/"));
            if kind == Kind::Link && nodes > MANY_NODES && under.is_none() {
                view.missing.push(format!("links: with {nodes} nodes they are shown node by node; ask for those under a node"));
                continue;
            }
            let part = self.part((vec![kind], under)).await?;
            view.items.extend(part.items.iter().filter(|item| item.kind() == kind).cloned());
            let new = part.missing.iter().filter(|sentence| !overview.missing.contains(sentence));
            view.missing.extend(new.cloned());
        }
        (view.items, view.matched) = select(std::mem::take(&mut view.items), question);
        Ok(view)
    }

    async fn part(&self, part: Part) -> Result<Arc<View>, String> {
        let question = Question { kinds: part.0.clone(), under: part.1.clone(), ..Question::default() };
        let slot = {
            let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
            if parts.len() >= PARTS && !parts.contains_key(&part) {
                parts.clear();
            }
            Arc::clone(parts.entry(part).or_default())
        };
        let asked = async { self.eye.look(&question).await.map_err(|failure| failure.sentence) };
        slot.get(FRESH, 1, asked).await
    }
}
