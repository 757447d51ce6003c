//! A node's process: reads its briefing, runs the node actor, tells its launcher what happens.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everstep_actors::checkpoint::Digest;
use everstep_actors::event::{Event, Recorded};
use everstep_actors::net;
use everstep_actors::net::endpoint::Options;
use everstep_actors::net::tls::{Identity, Role, RunCa};
use everstep_actors::protocol::ids::Step;
use everstep_actors::protocol::terms::Terms;
use everstep_actors::protocol::word::Outcome;
use everstep_actors::roles::node::{self, Cluster, NodeArgs, NodeError, Order, Renewal};
use everstep_actors::roles::watchdog::Patience;
use everstep_actors::store::{Store, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

use super::wire::{Briefing, Ticket, Word};
use crate::cli::{ExitCode, Failure};
use crate::config::Recipe;
use crate::data::BadSample;
use crate::{heap, probe, setup};

/// A node's certificate is short-lived: it is made anew, for the same key, when two thirds of this are over.
const CERTIFICATE_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Events that wait for the launcher's pipe at most.
const EVENTS_MAX: usize = 16_384;
/// Batches of this many steps are decoded ahead.
const STEPS_AHEAD: u64 = 3;

/// Runs one node of a run, as its launcher says on standard input.
///
/// # Errors
/// One sentence with the exit code that tells the launcher what to do.
pub fn run() -> Result<ExitCode, Failure> {
    heap::keep();
    let mut input = BufReader::new(std::io::stdin());
    let mut line = String::new();
    let read =
        input.read_line(&mut line).map_err(|error| Failure::new(ExitCode::Internal, format!("the briefing cannot be read: {error}")))?;
    if read == 0 {
        return Err(Failure::new(ExitCode::Usage, "`everstep node` is started by `everstep train`; use that"));
    }
    let briefing: Briefing =
        serde_json::from_str(&line).map_err(|error| Failure::new(ExitCode::Internal, format!("the briefing is none: {error}")))?;
    crate::log::is_of(&briefing.run);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime
        .map_err(|error| Failure::new(ExitCode::Internal, format!("no threads can be started: {error}; raise the limit of processes")))?;

    let (events, mut happened) = mpsc::channel::<Recorded>(EVENTS_MAX);
    let (orders, obeyed) = mpsc::channel(64);
    let by_signal = orders.clone();
    std::thread::spawn(move || listen(input, &orders));
    let telling = std::thread::spawn(move || {
        while let Some(recorded) = happened.blocking_recv() {
            crate::log::follow(&recorded);
            tell(&recorded);
            if matches!(recorded.event, Event::Ended { .. }) {
                return;
            }
        }
    });
    let ended = start(&briefing, &runtime, events, (by_signal, obeyed));
    // Background work of a run that is over has nothing left to say.
    runtime.shutdown_timeout(Duration::from_millis(200));
    let ended = ended?;
    // The end is the last thing that is told.
    let _ = telling.join();
    Ok(match ended.outcome {
        Outcome::Done | Outcome::Stopped | Outcome::Left => ExitCode::Done,
        Outcome::Lost => ExitCode::TryAgain,
        Outcome::Unusable => ExitCode::Config,
    })
}

fn start(
    briefing: &Briefing,
    runtime: &tokio::runtime::Runtime,
    events: mpsc::Sender<Recorded>,
    (by_signal, orders): (mpsc::Sender<Order>, mpsc::Receiver<Order>),
) -> Result<node::Ended, Failure> {
    let recipe = Recipe::from_text("the run's recipe", &briefing.recipe, &[])?;
    let own = setup::settled(recipe.clone(), briefing.slot);
    let job = Arc::new(setup::beginning(&own, briefing.steps, &|_| {})?);
    let train = recipe.data.train.clone().unwrap_or_default();
    let source = setup::source(&train, briefing.cache.as_deref().map(Path::new))?;
    let (identity, renewal) = identity(briefing, runtime)?;
    let (bad, noted) = mpsc::channel(EVENTS_MAX);
    let on_bad = move |sample: &BadSample| {
        let event = Event::SampleReplaced { sample: sample.sample, place: sample.name.clone(), because: sample.reason.clone() };
        // A full channel loses a line for people, never the count that ends the run.
        let _ = bad.try_send(event);
    };
    let loader = setup::loader(&recipe, source, Arc::new(on_bad))?;
    let ip: IpAddr = recipe.cluster.bind.parse().unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let store = Store::open(&briefing.run).map_err(unusable)?;
    let hardware = probe::digest(&own.device.name, runtime.handle())?;
    let args = NodeArgs {
        source: Arc::new(loader),
        store,
        run: briefing.run.clone(),
        identity,
        renewal: Some(renewal),
        bind: SocketAddr::new(ip, 0),
        net: Options::default(),
        socket: None,
        advertise: recipe.cluster.advertise.as_ref().and_then(|address| address.parse().ok()).map(|ip| SocketAddr::new(ip, 0)),
        host: briefing.host.clone(),
        zone: recipe.cluster.zone.clone(),
        slot: briefing.slot,
        pid: std::process::id(),
        terms: Terms { build: env!("CARGO_PKG_VERSION").into(), recipe: recipe.digest(), hardware },
        config: Digest::of(recipe.digest().as_bytes()),
        cluster: Cluster {
            ranks_start: recipe.cluster.ranks,
            ranks_min: recipe.cluster.ranks_min,
            ranks_max: recipe.cluster.ranks_max,
            replicas: recipe.cluster.replicas,
            mixed: recipe.cluster.mixed_hardware,
        },
        patience: Patience::default(),
        care: setup::care(&recipe),
        loss_max: recipe.guard.loss_max.unwrap_or(f64::INFINITY),
        images: recipe.images_per_step(),
        steps: Step(briefing.steps),
        restarts: briefing.restarts,
        checkpoint_every: if recipe.checkpoint.every == 0 { u64::MAX } else { recipe.checkpoint.every },
        checkpoint_keep: recipe.checkpoint.keep as usize,
        shard_values: setup::shard_values(&recipe, &job),
        gathered_values_max: setup::GATHERED_VALUES_MAX,
        loader_ahead: STEPS_AHEAD,
        loader_threads: recipe.device.loader_threads as usize,
        workload: job,
        events,
        noted,
        orders,
    };
    runtime
        .block_on(async {
            signals(by_signal);
            node::run(args).await
        })
        .map_err(|error| match error {
            NodeError::Store(error) => unusable(error),
            NodeError::Bind(error) => Failure::new(ExitCode::Failed, error),
            error @ NodeError::Spawn(..) => Failure::new(ExitCode::Internal, error),
        })
}

/// A store that cannot be reached now may be there at the next start; no other trouble with it passes.
fn unusable(error: StoreError) -> Failure {
    let code = if matches!(error, StoreError::Unavailable { .. }) { ExitCode::TryAgain } else { ExitCode::Config };
    Failure::new(code, error)
}

/// This process's certificate, and how it gets the next one: from the run's authority, or from whoever holds it.
fn identity(briefing: &Briefing, runtime: &tokio::runtime::Runtime) -> Result<(Identity, Renewal), Failure> {
    if let Some(Ticket { address, token }) = &briefing.ticket {
        let address: SocketAddr =
            address.parse().map_err(|_| Failure::new(ExitCode::Config, format!("--join {address} is no address such as 10.0.0.7:9495")))?;
        let joined = runtime.block_on(net::join::join(address, token));
        let identity = joined.map_err(|error| {
            // A desk that is not there may come back; a token that it refuses is refused for ever.
            let code = if matches!(error, net::join::JoinError::Unreachable { .. }) { ExitCode::TryAgain } else { ExitCode::Refused };
            Failure::new(code, format!("this machine is not let in: {error}"))
        })?;
        let renewed = move |identity: Identity| -> BoxFuture<'static, Result<Identity, String>> {
            async move { net::join::renew(address, &identity).await.map_err(|error| error.to_string()) }.boxed()
        };
        return Ok((identity, Arc::new(renewed)));
    }
    let ca = RunCa::load_or_create(Path::new(&briefing.secrets), "run").map_err(|error| Failure::new(ExitCode::Config, error))?;
    let identity = Identity::issue(&ca, Role::Node, CERTIFICATE_FOR).map_err(|error| Failure::new(ExitCode::Internal, error))?;
    let ca = Arc::new(ca);
    let renewed = move |identity: Identity| -> BoxFuture<'static, Result<Identity, String>> {
        let ca = ca.clone();
        async move { identity.renewed(&ca, CERTIFICATE_FOR).map_err(|error| error.to_string()) }.boxed()
    };
    Ok((identity, Arc::new(renewed)))
}

/// Ctrl-C is the launcher's affair: it tells its nodes in good order. A polite end of this process alone lets it leave the run.
fn signals(orders: mpsc::Sender<Order>) {
    use tokio::signal::unix::{SignalKind, signal};
    if let Ok(mut interrupt) = signal(SignalKind::interrupt()) {
        tokio::spawn(async move { while interrupt.recv().await.is_some() {} });
    }
    if let Ok(mut terminate) = signal(SignalKind::terminate()) {
        tokio::spawn(async move {
            while terminate.recv().await.is_some() {
                let because = format!("process {} was asked to end (SIGTERM)", std::process::id());
                if orders.send(Order::Leave { because, deadline: None }).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn listen(input: impl BufRead, orders: &mpsc::Sender<Order>) {
    for line in input.lines() {
        let order = match line.map(|line| serde_json::from_str::<Word>(&line)) {
            Ok(Ok(Word::Stop { because })) => Order::Stop { because },
            Ok(Ok(Word::Leave { because, deadline_ms })) => Order::Leave { because, deadline: deadline_ms.map(Duration::from_millis) },
            Ok(Ok(Word::Stay)) => Order::Stay,
            Ok(Ok(Word::Died { pid, because })) => Order::Died { pid, because },
            Ok(Err(error)) => {
                tracing::warn!(%error, "a line from the launcher cannot be read");
                continue;
            }
            Err(_) => break,
        };
        if orders.blocking_send(order).is_err() {
            return;
        }
    }
    // Nobody is left to watch this process: it hands over what it holds and ends.
    let _ = orders.blocking_send(Order::Leave { because: "its launcher is gone".into(), deadline: None });
}

fn tell(event: &Recorded) {
    if let Ok(line) = serde_json::to_string(event) {
        // A launcher that is gone shows as the end of standard input.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}
