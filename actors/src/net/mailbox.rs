//! What ractor's mailboxes lack: a bound, a depth, and a sight of the handler at work.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use ractor::{ActorCell, ActorId, ActorRef, Message};
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Handlers that an actor's ring remembers.
const RECENT: usize = 16;

/// Why a message was not put into a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    /// It holds as many messages as it may.
    #[error("the mailbox of actor {0} is full")]
    Full(String),
    /// The actor has stopped.
    #[error("actor {0} has stopped")]
    Gone(String),
}

/// What an actor is doing, kept by its mailbox and its handler.
#[derive(Debug)]
pub struct ActorStats {
    name: String,
    kind: &'static str,
    /// Whose they are, once it is started.
    actor: OnceLock<ActorCell>,
    capacity: usize,
    room: Semaphore,
    high_water: AtomicUsize,
    handled: AtomicU64,
    at_work: Mutex<Option<(&'static str, Instant)>>,
    /// When each message that waits was put in, the oldest first.
    queued: Mutex<VecDeque<Instant>>,
    recent: Mutex<VecDeque<Done>>,
    failure: Mutex<Option<Failure>>,
    /// Its failure was its end.
    ended: AtomicBool,
    /// Whether its handlers do long work: how long is nobody's fault.
    slow: bool,
}

/// A handler that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Done {
    /// When it ended, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Which.
    pub handler: &'static str,
    /// How long it took.
    pub took: Duration,
}

/// Something that an actor could not do.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Failure {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// One sentence.
    pub message: String,
    /// What lies under it, one sentence.
    pub root_cause: String,
    /// The reference at which that lies; empty for this actor itself.
    pub root: String,
    /// When the actor did again what it could not do, milliseconds since the Unix epoch; absent while it has not.
    pub mended_ms: Option<u64>,
}

/// The same, as numbers at one moment.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ActorReport {
    /// The actor's name, unique in its node.
    pub name: String,
    /// What kind of actor it is; empty where its name says it.
    pub kind: &'static str,
    /// Messages that wait.
    pub depth: usize,
    /// The most that ever waited.
    pub high_water: usize,
    /// The most that may wait.
    pub capacity: usize,
    /// Messages handled.
    pub handled: u64,
    /// The handler at work and since when.
    pub handling: Option<(&'static str, Duration)>,
    /// How long the oldest message that waits has waited.
    pub oldest: Option<Duration>,
    /// The last handlers, oldest first.
    pub recent: Vec<Done>,
    /// The last failure.
    pub failure: Option<Failure>,
    /// Whether that was its end.
    pub ended: bool,
}

impl ActorStats {
    /// Those of one of many actors of a kind, which no table holds.
    pub(crate) fn one_of_many(kind: &'static str, name: String, capacity: usize) -> Arc<Self> {
        Arc::new(Self { kind, ..Self::new(name, capacity.max(1), false) })
    }

    fn new(name: String, capacity: usize, slow: bool) -> Self {
        Self {
            slow,
            name,
            kind: "",
            actor: OnceLock::new(),
            capacity,
            room: Semaphore::new(capacity),
            high_water: AtomicUsize::new(0),
            handled: AtomicU64::new(0),
            at_work: Mutex::new(None),
            queued: Mutex::default(),
            recent: Mutex::default(),
            failure: Mutex::new(None),
            ended: AtomicBool::new(false),
        }
    }

    /// The actor's name, unique in its node.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Says whose they are.
    pub fn belong_to(&self, actor: ActorCell) {
        // The first word stands: a name that is taken over has new ones.
        let _ = self.actor.set(actor);
    }

    /// Ends the actor, once it is started, where its handler next waits, as a failure of its own would.
    pub fn kill(&self) {
        self.actor.get().into_iter().for_each(ActorCell::kill);
    }

    /// To be called first in `handle`, and held to its end: gives the message's place free and shows
    /// `handler` at work.
    #[must_use = "the handler counts as done when this is dropped"]
    pub fn handling(self: &Arc<Self>, handler: &'static str) -> Handling {
        if self.depth() > 0 {
            self.room.add_permits(1);
        }
        lock(&self.queued).pop_front();
        *lock(&self.at_work) = Some((handler, Instant::now()));
        Handling(self.clone())
    }

    /// Something that this actor was to do has failed; `root` is the reference at which the cause lies, empty for the actor itself.
    pub fn failed(&self, message: String, root_cause: String, root: String) {
        *lock(&self.failure) = Some(Failure { at_ms: crate::clock::wall_ms(), message, root_cause, root, mended_ms: None });
    }

    /// The actor has done again what it could not do.
    pub fn succeeded(&self) {
        if let Some(failure) = lock(&self.failure).as_mut() {
            failure.mended_ms.get_or_insert_with(crate::clock::wall_ms);
        }
    }

    /// This actor has come to its end by a failure of its own.
    pub fn died(&self, message: String, root_cause: String) {
        self.failed(message, root_cause, String::new());
        self.ended.store(true, Ordering::Relaxed);
    }

    /// The numbers now.
    pub fn report(&self) -> ActorReport {
        let at_work = *lock(&self.at_work);
        let oldest = lock(&self.queued).front().map(Instant::elapsed);
        ActorReport {
            name: self.name.clone(),
            kind: self.kind,
            depth: self.depth(),
            high_water: self.high_water.load(Ordering::Relaxed),
            capacity: self.capacity,
            handled: self.handled.load(Ordering::Relaxed),
            handling: at_work.map(|(handler, since)| (handler, since.elapsed())),
            oldest,
            recent: lock(&self.recent).iter().copied().collect(),
            failure: lock(&self.failure).clone(),
            ended: self.ended.load(Ordering::Relaxed),
        }
    }

    fn depth(&self) -> usize {
        self.capacity.saturating_sub(self.room.available_permits())
    }

    fn mark(&self) {
        self.high_water.fetch_max(self.depth(), Ordering::Relaxed);
    }
}

/// A handler at work; dropped when it is done.
#[derive(Debug)]
pub struct Handling(Arc<ActorStats>);

impl Drop for Handling {
    fn drop(&mut self) {
        let done = lock(&self.0.at_work).take();
        self.0.handled.fetch_add(1, Ordering::Relaxed);
        if let Some((handler, since)) = done {
            let mut recent = lock(&self.0.recent);
            if recent.len() == RECENT {
                recent.pop_front();
            }
            recent.push_back(Done { at_ms: crate::clock::wall_ms(), handler, took: since.elapsed() });
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The actors of one node, by name.
#[derive(Debug, Clone, Default)]
pub struct ActorTable(Arc<DashMap<String, Arc<ActorStats>>>);

impl ActorTable {
    /// Enters an actor whose mailbox holds up to `capacity` messages; one of that name before it is replaced.
    pub fn register(&self, name: &str, capacity: usize) -> Arc<ActorStats> {
        self.enter(ActorStats::new(name.to_owned(), capacity.max(1), false))
    }

    /// As [`ActorTable::register`], for one that waits for a store or a disk: it is shown, and never counts as hanging.
    pub fn register_slow(&self, name: &str, capacity: usize) -> Arc<ActorStats> {
        self.enter(ActorStats::new(name.to_owned(), capacity.max(1), true))
    }

    fn enter(&self, stats: ActorStats) -> Arc<ActorStats> {
        let stats = Arc::new(stats);
        self.0.insert(stats.name.clone(), stats.clone());
        stats
    }

    /// Takes an actor out, if it is still this one.
    pub fn remove(&self, stats: &Arc<ActorStats>) {
        self.0.remove_if(&stats.name, |_, current| Arc::ptr_eq(current, stats));
    }

    /// The counters of an actor.
    pub fn of(&self, actor: ActorId) -> Option<Arc<ActorStats>> {
        self.0.iter().find(|entry| entry.value().actor.get().is_some_and(|cell| cell.get_id() == actor)).map(|entry| entry.value().clone())
    }

    /// The counters of the actor of this name.
    pub fn named(&self, name: &str) -> Option<Arc<ActorStats>> {
        self.0.get(name).map(|entry| entry.value().clone())
    }

    /// Handlers at work, those that do long work left out: the actor, the handler, since when.
    pub fn at_work(&self) -> Vec<(String, &'static str, Instant)> {
        let at_work = |stats: &ActorStats| *lock(&stats.at_work);
        let watched = self.0.iter().filter(|entry| !entry.value().slow);
        watched.filter_map(|entry| at_work(entry.value()).map(|(handler, since)| (entry.key().clone(), handler, since))).collect()
    }

    /// All actors, by name.
    pub fn reports(&self) -> Vec<ActorReport> {
        let mut reports: Vec<_> = self.0.iter().map(|entry| entry.value().report()).collect();
        reports.sort_by(|a, b| a.name.cmp(&b.name));
        reports
    }
}

/// A bounded way into an actor. All messages that the bound should cover must come through it or its
/// clones, and the actor must call [`ActorStats::handling`] for each.
pub struct Mailbox<M> {
    actor: ActorRef<M>,
    stats: Arc<ActorStats>,
}

impl<M> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Self { actor: self.actor.clone(), stats: self.stats.clone() }
    }
}

impl<M> std::fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Mailbox").field(&self.stats.report()).finish()
    }
}

impl<M: Message> Mailbox<M> {
    /// A way into `actor`, whose handler reports to `stats`.
    pub fn new(actor: ActorRef<M>, stats: Arc<ActorStats>) -> Self {
        stats.belong_to(actor.get_cell());
        Self { actor, stats }
    }

    /// Sends a message; waits while the mailbox is full.
    ///
    /// # Errors
    /// [`MailboxError::Gone`].
    pub async fn send(&self, message: M) -> Result<(), MailboxError> {
        let cell = self.actor.get_cell();
        tokio::select! {
            biased;
            permit = self.stats.room.acquire() => permit.map_err(|_| self.gone())?.forget(),
            _ = cell.wait(None) => return Err(self.gone()),
        }
        self.cast(message)
    }

    /// Sends a message, without waiting.
    ///
    /// # Errors
    /// [`MailboxError`].
    pub fn try_send(&self, message: M) -> Result<(), MailboxError> {
        self.stats.room.try_acquire().map_err(|_| MailboxError::Full(self.stats.name.clone()))?.forget();
        self.cast(message)
    }

    /// Sends a message that must not be lost and comes seldom, even if the mailbox is full.
    ///
    /// # Errors
    /// [`MailboxError::Gone`].
    pub fn insist(&self, message: M) -> Result<(), MailboxError> {
        if let Ok(permit) = self.stats.room.try_acquire() {
            permit.forget();
        }
        self.cast(message)
    }

    /// What the actor is doing.
    pub fn stats(&self) -> &Arc<ActorStats> {
        &self.stats
    }

    /// The actor itself, for supervision.
    pub fn actor(&self) -> &ActorRef<M> {
        &self.actor
    }

    fn cast(&self, message: M) -> Result<(), MailboxError> {
        self.stats.mark();
        lock(&self.stats.queued).push_back(Instant::now());
        self.actor.cast(message).map_err(|_| {
            lock(&self.stats.queued).pop_back();
            self.stats.room.add_permits(1);
            self.gone()
        })
    }

    fn gone(&self) -> MailboxError {
        MailboxError::Gone(self.stats.name.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ractor::{Actor, ActorProcessingErr};
    use tokio::time::timeout;

    /// Works on a message until the gate lets one pass.
    struct Worker {
        gate: Arc<Semaphore>,
        stats: Arc<ActorStats>,
    }

    impl Actor for Worker {
        type Msg = u32;
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ActorRef<u32>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
        async fn handle(&self, _: ActorRef<u32>, _: u32, (): &mut ()) -> Result<(), ActorProcessingErr> {
            let _working = self.stats.handling("number");
            self.gate.acquire().await?.forget();
            Ok(())
        }
    }

    async fn until(what: impl Fn() -> bool) {
        timeout(Duration::from_secs(5), async {
            while !what() {
                tokio::task::yield_now().await
            }
        })
        .await
        .unwrap();
    }

    async fn worker(capacity: usize) -> (Mailbox<u32>, Arc<Semaphore>, ActorTable) {
        let table = ActorTable::default();
        let stats = table.register("worker", capacity);
        let gate = Arc::new(Semaphore::new(0));
        let (actor, _) = Actor::spawn(None, Worker { gate: gate.clone(), stats: stats.clone() }, ()).await.unwrap();
        (Mailbox::new(actor, stats), gate, table)
    }

    #[tokio::test]
    async fn a_mailbox_has_a_bound_and_tells_what_goes_on() {
        let (mailbox, gate, table) = worker(3).await;
        mailbox.send(0).await.unwrap();
        until(|| table.reports()[0].handling.is_some()).await;
        for n in 1..=3 {
            mailbox.try_send(n).unwrap();
        }
        assert_eq!(mailbox.try_send(4), Err(MailboxError::Full("worker".into())));
        let report = table.reports().remove(0);
        assert_eq!((report.depth, report.high_water, report.capacity, report.handled), (3, 3, 3, 0));
        assert_eq!(report.handling.unwrap().0, "number");
        assert!(timeout(Duration::from_millis(20), mailbox.send(4)).await.is_err(), "it waits for room");

        gate.add_permits(1);
        timeout(Duration::from_secs(5), mailbox.send(4)).await.unwrap().unwrap();
        gate.add_permits(4);
        until(|| table.reports()[0].handled == 5).await;
        let report = table.reports().remove(0);
        assert_eq!((report.depth, report.high_water, report.handling), (0, 3, None));
    }

    #[test]
    fn a_failure_is_mended_by_the_first_success_after_it_and_not_by_one_before() {
        let stats = ActorTable::default().register_slow("checkpoint_writer", 2);
        stats.succeeded();
        assert_eq!(stats.report().failure, None);
        stats.failed("the parts were not saved".into(), "no space is left".into(), String::new());
        assert_eq!(stats.report().failure.unwrap().mended_ms, None, "it stands");
        stats.succeeded();
        let mended = stats.report().failure.unwrap();
        assert!(mended.mended_ms >= Some(mended.at_ms) && mended.root_cause == "no space is left", "{mended:?}");
        stats.succeeded();
        assert_eq!(stats.report().failure.unwrap(), mended, "since when stays");
        stats.failed("again".into(), "again".into(), String::new());
        assert_eq!(stats.report().failure.unwrap().mended_ms, None);
    }

    #[tokio::test]
    async fn what_must_not_be_lost_comes_in_where_there_is_no_room() {
        let (mailbox, gate, table) = worker(1).await;
        mailbox.send(0).await.unwrap();
        until(|| table.reports()[0].handling.is_some()).await;
        mailbox.try_send(1).unwrap();
        assert!(mailbox.try_send(2).is_err());
        mailbox.insist(2).unwrap();
        gate.add_permits(3);
        until(|| table.reports()[0].handled == 3).await;
        assert_eq!(table.reports()[0].depth, 0);
        mailbox.try_send(3).unwrap();
        assert!(mailbox.try_send(4).is_err(), "the bound is what it was");
    }

    #[tokio::test]
    async fn a_stopped_actor_is_told_even_to_those_who_wait() {
        let (mailbox, _gate, table) = worker(1).await;
        mailbox.send(0).await.unwrap();
        until(|| table.reports()[0].handling.is_some()).await;
        mailbox.try_send(1).unwrap();
        let waiting = tokio::spawn({
            let mailbox = mailbox.clone();
            async move { mailbox.send(2).await }
        });
        tokio::task::yield_now().await;
        mailbox.actor().kill();
        let gone = Err(MailboxError::Gone("worker".into()));
        assert_eq!(timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap(), gone);
        assert!(mailbox.try_send(3).is_err());
        let stats = mailbox.stats().clone();
        table.remove(&stats);
        assert!(table.reports().is_empty());
    }
}
