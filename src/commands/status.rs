//! `everstep status`: asks the run's leader, or reads what the store still tells.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everstep_actors::checkpoint;
use everstep_actors::clock::wall_ms;
use everstep_actors::event::{Event, Recorded};
use everstep_actors::net::endpoint::{Endpoint, Options};
use everstep_actors::net::link::LinkDown;
use everstep_actors::net::tls::{Identity, Role, RunCa};
use everstep_actors::net::{Reject, Router};
use everstep_actors::protocol::ids::{NodeId, Step};
use everstep_actors::protocol::record::EpochRecord;
use everstep_actors::roles::desk::Status;
use everstep_actors::roles::records;
use everstep_actors::store::{Store, StoreError};
use everstep_actors::wire::message::{Control, DataHeader};
use tokio::sync::mpsc;

use super::output;
use crate::cli::{ExitCode, Failure, StatusArgs};
use crate::report::status::{CheckpointView, MemberView, StatusView};

/// A leader that lives answers within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// An operator's certificate is made for one question.
const CERTIFICATE_FOR: Duration = Duration::from_secs(300);
/// The log of one stretch between checkpoints.
const EVENTS_BYTES_MAX: u64 = 256 << 20;

/// Prints who is in, which step, since when, how fast, and why the run waits.
///
/// # Errors
/// There is no run, or it cannot be read.
pub fn run(args: &StatusArgs) -> Result<ExitCode, Failure> {
    let secrets = crate::launch::secrets(&args.run, args.secrets.as_deref())?;
    let (view, live) = view(args, &secrets)?;
    if args.json {
        output::print_json(&view)?;
    } else {
        output::print(&view.text())?;
    }
    let complete = view.steps > 0 && view.step >= view.steps;
    Ok(if live || complete { ExitCode::Done } else { ExitCode::Unreachable })
}

/// The view of a run, and whether its leader answered.
fn view(args: &StatusArgs, secrets: &Path) -> Result<(StatusView, bool), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(ExitCode::Internal, format!("no threads can be started: {error}")))?;
    runtime.block_on(async {
        let failed = |error: StoreError| match error {
            error @ StoreError::NotFound { .. } => Failure::new(ExitCode::NotFound, error),
            error => Failure::new(ExitCode::Unreachable, error),
        };
        let store = Store::open_existing(&args.run).map_err(failed)?;
        let record = records::newest(&store).await.map_err(failed)?;
        let Some(record) = record else {
            return Err(Failure::new(
                ExitCode::NotFound,
                format!("{} holds no run yet: start one with `everstep train CONFIG --run {}`", args.run, args.run),
            ));
        };
        match ask(&record, secrets).await {
            Ok(status) => Ok((told(&args.run, &record, status), true)),
            Err(because) => Ok((remembered(&args.run, &store, &record, because).await?, false)),
        }
    })
}

/// Asks the leader over its own link, as a viewer.
async fn ask(record: &EpochRecord, secrets: &Path) -> Result<Status, String> {
    // Nothing is made by a question.
    if !secrets.exists() {
        return Err(format!("the run's certificates are not at {}: give --secrets", secrets.display()));
    }
    let ca = RunCa::load_or_create(secrets, "run").map_err(|error| error.to_string())?;
    let identity = Identity::issue(&ca, Role::Viewer, CERTIFICATE_FOR).map_err(|error| error.to_string())?;
    let leader = record.leading().ok_or("its newest record names no leader")?;
    let address = leader.address.parse().map_err(|_| format!("its leader's address {} cannot be dialled", leader.address))?;
    let (answer, mut answers) = mpsc::channel(1);
    let bind = if std::net::SocketAddr::is_ipv4(&address) { "0.0.0.0:0" } else { "[::]:0" };
    let bind = bind.parse().map_err(|_| "no local address".to_owned())?;
    let endpoint = Endpoint::bind(bind, identity, Options::default(), Arc::new(Asking(answer)), None).map_err(|error| error.to_string())?;
    let asked = async {
        let link = endpoint.connect(address, Some(leader.node)).await.map_err(|error| error.to_string())?;
        link.control(&Control::AskStatus).await.map_err(|error| error.to_string())?;
        let json = answers.recv().await.ok_or("its leader went away")?;
        link.close("answered").await;
        serde_json::from_str(&json).map_err(|error| format!("its leader's answer cannot be read: {error}"))
    };
    let status = tokio::time::timeout(ANSWER_WITHIN, asked).await.map_err(|_| "its leader does not answer".to_owned())?;
    endpoint.close("answered").await;
    status
}

/// What comes back to an operator: one answer.
struct Asking(mpsc::Sender<String>);

impl Router for Asking {
    type Control = Control;
    fn control(&self, _: NodeId, message: Control) {
        if let Control::Status { json } = message {
            // A second answer is of no use.
            let _ = self.0.try_send(json);
        }
    }
    fn admit(&self, _: NodeId, _: &DataHeader) -> Result<(), Reject> {
        Err(Reject("an operator takes no data".into()))
    }
    fn data(&self, _: NodeId, _: DataHeader, _: Vec<f32>) {}
    fn down(&self, _: NodeId, _: LinkDown) {}
}

fn seconds_since(at_ms: u64, now_ms: u64) -> f64 {
    now_ms.saturating_sub(at_ms) as f64 / 1e3
}

fn told(run: &str, record: &EpochRecord, status: Status) -> StatusView {
    let now = status.as_of_ms;
    let member = |member: &everstep_actors::event::MemberInfo| MemberView {
        node: member.node.to_string(),
        rank: member.rank,
        host: member.host.clone(),
        pid: member.pid,
        lanes: member.lanes,
        state: if status.waiting.is_some() { "waiting" } else { "training" }.into(),
    };
    StatusView {
        run: run.into(),
        epoch: status.epoch.0.max(record.epoch.0),
        epoch_because: record.because.clone(),
        leader: status.leader.map_or_else(|| record.leader.to_string(), |leader| leader.to_string()),
        step: status.step.0,
        steps: status.steps.0,
        since_seconds: seconds_since(status.step_since_ms.max(status.epoch_since_ms), now),
        images_per_second: (status.images_per_s > 0.0).then_some(status.images_per_s),
        loss: status.metrics.get(crate::report::names::LOSS).copied(),
        members: status.members.iter().map(member).collect(),
        checkpoint: status.checkpoint.map(|(step, at)| CheckpointView { step: step.0, age_seconds: Some(seconds_since(at, now)) }),
        waiting: status.waiting,
    }
}

/// What the store tells when nobody answers.
async fn remembered(run: &str, store: &Store, record: &EpochRecord, because: String) -> Result<StatusView, Failure> {
    let unreachable = |error: &dyn std::fmt::Display| Failure::new(ExitCode::Unreachable, error);
    let checkpoints = checkpoint::list(store).await.map_err(|error| unreachable(&error))?;
    let newest = checkpoints.iter().rev().find(|listing| listing.condition == checkpoint::Condition::Intact);
    let released = everstep_actors::roles::lease::Lease::read(store).await.ok().flatten().is_some_and(|lease| lease.released);
    let log = Log::read(store).await;
    let now = wall_ms();
    let member = |(rank, member): (usize, &everstep_actors::protocol::record::Member)| MemberView {
        node: member.node.to_string(),
        rank: rank as u32,
        host: member.host.clone(),
        pid: member.pid,
        lanes: log.lanes.get(&member.node).copied().unwrap_or_default(),
        state: if released { "ended" } else { "not heard" }.into(),
    };
    let waiting = if released { "nothing runs: the last session ended in good order".to_owned() } else { format!("no answer: {because}") };
    Ok(StatusView {
        run: run.into(),
        epoch: record.epoch.0,
        epoch_because: record.because.clone(),
        leader: record.leader.to_string(),
        step: newest.map_or(0, |listing| listing.step.0),
        steps: saved_steps(store).await.or(log.done).unwrap_or_default(),
        since_seconds: log.newest_ms.map_or(0.0, |at| seconds_since(at, now)),
        images_per_second: None,
        loss: None,
        members: record.members.iter().enumerate().map(member).collect(),
        checkpoint: newest.map(|listing| CheckpointView {
            step: listing.step.0,
            age_seconds: log.saved_ms.get(&listing.step).map(|at| seconds_since(*at, now)),
        }),
        waiting: Some(waiting),
    })
}

/// The steps of the run, where its recipe counts in steps.
async fn saved_steps(store: &Store) -> Option<u64> {
    let text = store.get("recipe.toml", 1 << 20).await.ok()?;
    let recipe = crate::config::Recipe::from_text("recipe.toml", &String::from_utf8_lossy(&text), &[]).ok()?;
    recipe.run.steps
}

/// What the log of a run says about times; empty where it cannot be read.
#[derive(Default)]
struct Log {
    /// When its newest event was recorded.
    newest_ms: Option<u64>,
    /// When checkpoints were saved. The last one may be missing: the log is saved with the checkpoint after it.
    saved_ms: BTreeMap<Step, u64>,
    /// The steps of a run that was trained to its end.
    done: Option<u64>,
    /// The lanes of each node as of the newest epoch that it was in.
    lanes: BTreeMap<NodeId, (u32, u32)>,
}

impl Log {
    async fn read(store: &Store) -> Self {
        let mut log = Self::default();
        for entry in store.list("events").await.unwrap_or_default() {
            let body = store.get(&entry.key, EVENTS_BYTES_MAX).await.unwrap_or_default();
            let text = String::from_utf8_lossy(&body);
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).for_each(|event| log.take_in(&event));
        }
        log
    }

    fn take_in(&mut self, recorded: &Recorded) {
        self.newest_ms = self.newest_ms.max(Some(recorded.at_ms));
        match &recorded.event {
            Event::CheckpointSaved { step, .. } => drop(self.saved_ms.insert(*step, recorded.at_ms)),
            Event::EpochBegan { members, .. } => self.lanes.extend(members.iter().map(|member| (member.node, member.lanes))),
            Event::Ended { step, outcome, .. } if outcome == "done" => self.done = Some(step.0),
            _ => {}
        }
    }
}
