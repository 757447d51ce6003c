//! A way to a run: over the links of its nodes while they live, from its store when they do not.
//!
//! The leader is asked first. Where it does not answer at once the other members are asked too: one of them knows nearly as much.
//! Nothing is made by a question: without certificates only the store is read.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use everstep_actors::desk::order::{Answer, Order};
use everstep_actors::desk::pack::{Unreadable, unpack};
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::View;
use everstep_actors::event::Recorded;
use everstep_actors::net::endpoint::{Endpoint, Options};
use everstep_actors::net::link::{Link, LinkDown};
use everstep_actors::net::tls::{Identity, Role, RunCa};
use everstep_actors::net::{Reject, Router};
use everstep_actors::protocol::ids::NodeId;
use everstep_actors::protocol::record::{EpochRecord, Member};
use everstep_actors::roles::lease::Lease;
use everstep_actors::roles::{log, records};
use everstep_actors::store::Store;
use everstep_actors::wire::message::{Control, DataHeader};
use tokio::sync::{OnceCell, oneshot};

use super::eye::Eye;
use super::members::{self, NoAnswer};
use super::remembered;
use crate::cli::{ExitCode, Failure};

/// An operator's certificate made on the spot lives as long as a long look.
const CERTIFICATE_FOR: Duration = Duration::from_secs(24 * 3_600);
/// A store that is well names its newest record within this.
const STORE_WITHIN: Duration = Duration::from_millis(400);
/// A node does what it is told within this, or says why not.
const OBEY_WITHIN: Duration = Duration::from_secs(3);
/// Peers that are there take a goodbye within this.
const GOODBYE_WITHIN: Duration = Duration::from_millis(200);
/// Answers take few packets of this size, that of jumbo frames. To find out that larger ones arrive, each end sends some that are
/// nothing but filled up, and takes them apart: over loopback that cost the nodes as much as a quarter of all answers.
const PACKET_MAX: u16 = 8_952;

/// Where a run lives and how to prove who asks.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// The run's location.
    pub run: &'a str,
    /// Where its certificates live, if not within the run.
    pub secrets: Option<&'a str>,
    /// A certificate that somebody was given, instead of one made from the run's authority.
    pub certificate: Option<&'a Path>,
}

/// A way to one run.
pub struct Desk {
    run: String,
    store: Store,
    identity: Result<Identity, String>,
    inbox: Arc<Inbox>,
    /// For IPv4 and for IPv6.
    endpoints: [OnceCell<Endpoint<Answers>>; 2],
    links: Mutex<BTreeMap<NodeId, Arc<Slot>>>,
    record: tokio::sync::Mutex<Option<EpochRecord>>,
    /// How old answers may be, for who looks again and again.
    at_most_ms: Option<u64>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Desk({})", self.run)
    }
}

/// A connection to one node, once there is one; locked while it is being made.
type Slot = tokio::sync::Mutex<Option<Link<Control>>>;

/// Answers that are waited for, by number.
#[derive(Debug, Default)]
struct Inbox {
    next: AtomicU64,
    waiting: Mutex<BTreeMap<u64, Waiting>>,
}

/// Who is to answer, and who waits for it.
type Waiting = (NodeId, oneshot::Sender<Vec<u8>>);

impl Inbox {
    /// An answer of this node and of no other.
    fn expect(&self, from: NodeId) -> (u64, oneshot::Receiver<Vec<u8>>) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (_, reply)| !reply.is_closed());
        waiting.insert(number, (from, reply));
        (number, answer)
    }
}

/// What comes back to an operator.
struct Answers(Arc<Inbox>);

impl Router for Answers {
    type Control = Control;
    fn control(&self, from: NodeId, message: Control) {
        let (number, body) = match message {
            Control::Answered { number, view } => (number, view),
            Control::Obeyed { number, answer } => (number, answer.into_bytes()),
            _ => return,
        };
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.get(&number).is_some_and(|(node, _)| *node == from)
            && let Some((_, reply)) = waiting.remove(&number)
        {
            // Who asked may have given up.
            let _ = reply.send(body);
        }
    }
    fn admit(&self, _: NodeId, _: &DataHeader) -> Result<(), Reject> {
        Err(Reject("an operator takes no data".into()))
    }
    fn data(&self, _: NodeId, _: DataHeader, _: Vec<f32>) {}
    fn down(&self, _: NodeId, _: LinkDown) {}
}

impl Desk {
    /// A way to a run, as somebody of this role.
    ///
    /// # Errors
    /// There is no such run.
    pub async fn open(way: Way<'_>, role: Role) -> Result<Self, Failure> {
        let store = Store::open_existing(way.run)?;
        let desk = Self {
            run: way.run.to_owned(),
            store,
            identity: identity(way, role),
            inbox: Arc::default(),
            endpoints: [OnceCell::new(), OnceCell::new()],
            links: Mutex::default(),
            record: tokio::sync::Mutex::default(),
            at_most_ms: None,
        };
        desk.newest().await?;
        Ok(desk)
    }

    /// The same for who looks again after so many seconds each time: nearly as old may answers be, so that many who look share them.
    #[must_use]
    pub fn at_pace(self, every: f64) -> Self {
        // A little younger: who is alone sees something new each time.
        Self { at_most_ms: Some((900.0 * every) as u64), ..self }
    }

    /// Where the run lives.
    pub fn store(&self) -> &Store {
        &self.store
    }

    async fn newest(&self) -> Result<EpochRecord, Failure> {
        let record = records::newest(&self.store).await?;
        let run = &self.run;
        let none =
            || Failure::new(ExitCode::NotFound, format!("{run} holds no run yet: start one with `everstep train CONFIG --run {run}`"));
        let record = record.ok_or_else(none)?;
        *self.record.lock().await = Some(record.clone());
        Ok(record)
    }

    /// The newest record that this desk has seen.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn record(&self) -> Result<EpochRecord, Failure> {
        match self.record.lock().await.clone() {
            Some(record) => Ok(record),
            None => self.newest().await,
        }
    }

    /// Whether the leader of this record has not said that the run has ended.
    pub async fn is_led(&self, record: &EpochRecord) -> bool {
        let lease = tokio::time::timeout(STORE_WITHIN, Lease::read(&self.store)).await.ok().and_then(Result::ok).flatten();
        !lease.is_some_and(|lease| lease.released && lease.epoch >= record.epoch)
    }

    async fn link(&self, member: &Member) -> Result<Link<Control>, NoAnswer> {
        let slot = self.links.lock().unwrap_or_else(PoisonError::into_inner).entry(member.node).or_default().clone();
        // Questions that are asked together share one connection: the first of them dials.
        let mut slot = slot.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| link.is_down().is_none()) {
            return Ok(link.clone());
        }
        let identity = self.identity.clone()?;
        let address: SocketAddr = member.address.parse().map_err(|_| format!("its address {} cannot be dialled", member.address))?;
        let bind: SocketAddr = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let answers = || Arc::new(Answers(self.inbox.clone()));
        let options = Options { max_payload: PACKET_MAX, ..Options::default() };
        let made = || async { Endpoint::bind(bind, identity, options.clone(), answers(), None).map_err(|error| error.to_string()) };
        let endpoint = self.endpoints[usize::from(address.is_ipv6())].get_or_try_init(made).await?;
        let link = endpoint.connect(address, Some(member.node)).await?;
        *slot = Some(link.clone());
        Ok(link)
    }

    async fn say(&self, member: &Member, message: impl FnOnce(u64) -> Control) -> Result<Vec<u8>, NoAnswer> {
        let link = self.link(member).await?;
        let (number, answer) = self.inbox.expect(member.node);
        link.control(&message(number)).await.map_err(|error| error.to_string())?;
        Ok(answered(answer, link.down()).await?)
    }

    async fn ask(&self, member: &Member, question: &str) -> Result<View, NoAnswer> {
        let packed = self.say(member, |number| Control::Ask { number, question: question.to_owned() }).await?;
        Ok(unpack(&packed).map_err(|error| unreadable(&error))?)
    }

    async fn ask_members(&self, record: &EpochRecord, question: &Question) -> Result<View, String> {
        let question = Question { at_most_ms: question.at_most_ms.or(self.at_most_ms), ..question.clone() };
        let text = serde_json::to_string(&question).map_err(|error| error.to_string())?;
        let text = &text;
        members::answer(record, |member| async move { (member.node, self.ask(&member, text).await) }).await
    }

    /// Gives an order to a node of the newest epoch; how people know the node, and what it says.
    ///
    /// # Errors
    /// It cannot be reached, or does not answer.
    pub async fn order(&self, member: &Member, record: &EpochRecord, order: &Order) -> Result<(String, Answer), Failure> {
        let name = record.name(member.node);
        let run = &self.run;
        let unreachable = |because: String| {
            Failure::new(ExitCode::Unreachable, format!("{name} cannot be told: {because}; see `everstep status --run {run}`"))
        };
        let text = serde_json::to_string(order).map_err(|error| Failure::new(ExitCode::Internal, error))?;
        let told = self.say(member, |number| Control::Order { number, order: text });
        let told = tokio::time::timeout(OBEY_WITHIN, told).await;
        let json = told
            .map_err(|_| "it does not answer, or this certificate allows no orders".to_owned())
            .and_then(|told| told.map_err(|error| error.because))
            .map_err(unreachable)?;
        let answer = serde_json::from_slice(&json).map_err(|error| unreachable(format!("its answer cannot be read: {error}")))?;
        Ok((name, answer))
    }

    /// Says goodbye to whom was asked.
    pub async fn close(&self) {
        let links: Vec<Arc<Slot>> = self.links.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        // Who never answered hears no goodbye.
        let is_up = |slot: &Arc<Slot>| slot.try_lock().is_ok_and(|link| link.as_ref().is_some_and(|link| link.is_down().is_none()));
        if !links.iter().any(is_up) {
            return;
        }
        for endpoint in self.endpoints.iter().filter_map(OnceCell::get) {
            // Who refused us, or is gone, does not answer: nobody who has his answer waits for that.
            drop(tokio::time::timeout(GOODBYE_WITHIN, endpoint.close("answered")).await);
        }
    }
}

#[async_trait]
impl Eye for Desk {
    async fn look(&self, question: &Question) -> Result<View, Failure> {
        // While the store is away its leader still answers.
        let record = match tokio::time::timeout(STORE_WITHIN, self.newest()).await {
            Ok(Ok(record)) => record,
            // A run that is gone is not one whose store is away for a moment.
            Ok(Err(failure)) if failure.code == ExitCode::NotFound => return Err(failure),
            Ok(Err(failure)) => self.record.lock().await.clone().ok_or(failure)?,
            Err(_) => self
                .record
                .lock()
                .await
                .clone()
                .ok_or_else(|| Failure::new(ExitCode::Unreachable, "the store does not answer; see that it can be reached"))?,
        };
        let because = match self.is_led(&record).await {
            false => None,
            true => match self.ask_members(&record, question).await {
                Ok(view) => return Ok(view),
                Err(because) => Some(because),
            },
        };
        remembered::view(&self.run, &self.store, &record, because, question).await
    }

    async fn events(&self) -> Result<Vec<Recorded>, Failure> {
        Ok(log::read(&self.store).await?)
    }
}

fn unreadable(error: &Unreadable) -> String {
    let remedy = match error {
        Unreadable::Endless => "narrow the question by kind, --filter or --limit",
        Unreadable::Packed(_) | Unreadable::NoView(_) => "use the run's own build of everstep",
    };
    format!("its answer cannot be read ({error}): {remedy}")
}

fn identity(way: Way<'_>, role: Role) -> Result<Identity, String> {
    if let Some(path) = way.certificate {
        return Identity::read(path).map_err(|error| error.to_string());
    }
    let secrets = crate::launch::secrets(way.run, way.secrets).map_err(|failure| failure.sentence)?;
    // None is made here: a certificate of another authority opens nothing.
    let absent = || format!("the run's certificates are not at {}: give --secrets or --certificate", secrets.display());
    let ca = RunCa::load(&secrets).map_err(|error| error.to_string())?.ok_or_else(absent)?;
    Identity::issue(&ca, role, CERTIFICATE_FOR).map_err(|error| error.to_string())
}

/// What comes first; who answers may go right after, and is heard.
async fn answered(answer: oneshot::Receiver<Vec<u8>>, down: impl Future<Output = LinkDown>) -> Result<Vec<u8>, String> {
    tokio::select! {
        biased;
        answer = answer => answer.map_err(|_| "it went away".to_owned()),
        down = down => Err(down.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    /// An order to kill a node is answered a moment before its link ends.
    #[tokio::test]
    async fn who_answers_and_goes_at_once_is_heard() {
        let gone = || LinkDown::Closed { reason: "its process has ended".into() };
        for turn in 0..64 {
            let (reply, answer) = oneshot::channel();
            reply.send(vec![turn]).unwrap();
            assert_eq!(answered(answer, ready(gone())).await, Ok(vec![turn]));
        }
        let (reply, answer) = oneshot::channel();
        assert_eq!(answered(answer, ready(gone())).await, Err(gone().to_string()));
        drop(reply);
        let (reply, answer) = oneshot::channel();
        drop(reply);
        assert_eq!(answered(answer, pending()).await, Err("it went away".to_owned()));
    }

    #[test]
    fn an_answer_without_end_is_refused_with_what_to_do() {
        let sentence = "its answer cannot be read (unpacked it is larger than 64 MiB): narrow the question by kind, --filter or --limit";
        assert_eq!(unreadable(&Unreadable::Endless), sentence);
        assert!(unreadable(&unpack(b"\xff").unwrap_err()).ends_with("the run's own build of everstep"));
    }
}
