//! Starting a node, and ending it in good order.

use ractor::ActorCell;
use tokio::task::AbortHandle;

use super::*;

/// The pace at which a store is asked again whether a silent leader has moved.
const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// How long after a newcomer the leader waits for others: a host's ranks come within this, and make one epoch.
const QUIET: Duration = Duration::from_millis(300);
/// Attempts at one step that may fail before the run ends.
const ATTEMPTS: u32 = 5;
/// How long a store that cannot be reached is asked at a start, and how often; who has launched this node starts it anew then.
const PROBE_MAX: Duration = Duration::from_secs(20);
const PROBE_AGAIN: Duration = Duration::from_secs(1);
/// How often the leader's log is written where nothing but steps happens.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// Runs a node until the run ends for it. Dropped before, it is gone without a last word.
///
/// # Errors
/// [`NodeError`] when it could not be started; how the run itself ends is [`Ended`].
pub async fn run<W: Workload>(args: NodeArgs<W>) -> Result<Ended, NodeError> {
    let units: Arc<[_]> = args.workload.units().into();
    let shapes: Vec<UnitShape> = units.iter().map(|unit| UnitShape { length: unit.len(), row: unit.row }).collect();
    let shards = Arc::new(cut(&shapes, args.shard_values));
    let vault = Arc::new(Vault::default());
    let table = Arc::new(ActorTable::default());
    let board = Arc::new(LaneBoard::default());
    let phases = Arc::new(PhaseBoard::default());
    let shared = Arc::new(Shared {
        me: args.identity.id(),
        host: args.host.clone(),
        pid: args.pid,
        nonces: std::sync::atomic::AtomicU64::new(0),
        links: DashMap::new(),
        dials: Dials::default(),
        linked: watch::channel(0).0,
        node: OnceLock::new(),
        rank: OnceLock::new(),
        aggregator: OnceLock::new(),
        coordinator: OnceLock::new(),
        desk: OnceLock::new(),
        epoch: RwLock::new(None),
        term: RwLock::new(None),
        leading: watch::channel(None).0,
        lease: watch::channel(None).0,
        transfers: Transfers::new(vault.clone(), shards.clone(), args.workload.slots()),
        vault: vault.clone(),
        shards: shards.clone(),
        tail: Tail::default(),
        report: Mutex::default(),
        images: args.images,
        committed_at: Mutex::new(Instant::now()),
        events: args.events,
        log: Log::default(),
        store: args.store.clone(),
        hung: OnceLock::new(),
        slots: args.workload.slots(),
        table: table.clone(),
        board: board.clone(),
        phases: phases.clone(),
        run: args.run.clone(),
        build: args.terms.build.clone(),
        steps: args.steps,
        member: OnceLock::new(),
        started_ms: crate::clock::wall_ms(),
        endpoint: OnceLock::new(),
        restarts: args.restarts,
        draining: Mutex::default(),
        listed: Mutex::default(),
        asked: Asked::default(),
        given: Given::default(),
        denied: Denied::default(),
        published: std::sync::atomic::AtomicU64::new(0),
        pausing: Pausing::default(),
        answering: Arc::default(),
        moments: routes::Moments::default(),
    });
    let router = Arc::new(NodeRouter(shared.clone()));
    let identity = args.identity.clone();
    let options = args.net;
    let endpoint = Arc::new(match args.socket {
        Some(socket) => Endpoint::over(socket, args.identity, options, router, None)?,
        None => Endpoint::bind(args.bind, args.identity, options, router, None)?,
    });
    let listened = endpoint.local_addr().map_err(|error| BindError::Io { address: args.bind, error })?;
    let advertised = args.advertise.map(|to| SocketAddr::new(to.ip(), if to.port() == 0 { listened.port() } else { to.port() }));
    let address = advertised.unwrap_or(listened).to_string();
    let me = Member { node: shared.me, address, host: args.host, zone: args.zone, pid: args.pid, slot: args.slot };
    // Set once, here.
    let _ = (shared.member.set(me.clone()), shared.endpoint.set(Arc::downgrade(&endpoint)));
    let mut crew = Crew { shared: shared.clone(), tasks: Vec::new(), root: None };
    crew.tasks.extend(args.renewal.map(|renew| {
        let (endpoint, renew) = (Arc::downgrade(&endpoint), move |identity| renew(identity));
        tokio::spawn(crate::net::renewal::keep_renewed(endpoint, identity, renew)).abort_handle()
    }));
    probe(&shared).await?;

    let (finished, ended) = oneshot::channel();
    let finished: Finished = Arc::new(Mutex::new(Some(finished)));
    let master: Arc<dyn Master> = Arc::new(hang::Hang { shared: shared.clone(), finished: finished.clone() });
    let watching = watchdog::watch(table.clone(), board.clone(), master, args.patience)
        .map_err(|error| NodeError::Spawn("watchdog", error.to_string()))?;
    let (writer, _) = CheckpointWriter::spawn(
        None,
        CheckpointWriter,
        WriterConfig { in_flight: 2, ..WriterConfig::new(args.store.clone(), &args.run, units.clone()) },
    )
    .await
    .map_err(|error| NodeError::Spawn("checkpoint writer", error.to_string()))?;
    let stats = table.register("node", MAILBOX_MAX);
    let writing = table.register_slow("checkpoint_writer", 2);
    writing.belong_to(writer.get_cell());
    let node = NodeActor {
        stats: stats.clone(),
        shared: shared.clone(),
        workload: args.workload.clone(),
        endpoint: endpoint.clone(),
        writer: writer.clone(),
        writing,
        gathered_values_max: args.gathered_values_max,
        settings: Settings {
            me: me.clone(),
            terms: args.terms.clone(),
            shards: shards.iter().map(|shard| shard.id).collect(),
            grace: SILENCE,
            pace: LOOK_AGAIN,
        },
        began: Instant::now(),
        finished: finished.clone(),
    };
    let (node, node_task) = Actor::spawn(None, node, ()).await.map_err(|error| NodeError::Spawn("node", error.to_string()))?;
    writer.link(node.get_cell());
    crew.root = Some(node.get_cell());
    let _ = shared.node.set(Mailbox::new(node.clone(), stats));
    let superior = node.get_cell();
    macro_rules! start {
        ($slot:expr, $name:literal, $make:expr, $arguments:expr) => {{
            let stats = table.register($name, MAILBOX_MAX);
            let make = $make;
            let (actor, _) = Actor::spawn_linked(None, make(stats.clone()), $arguments, superior.clone())
                .await
                .map_err(|error| NodeError::Spawn($name, error.to_string()))?;
            let mailbox = Mailbox::new(actor, stats);
            let _ = $slot.set(mailbox.clone());
            mailbox
        }};
    }
    start!(shared.desk, "desk", |stats| Desk { stats }, ());
    start!(shared.aggregator, "aggregator", |stats| Aggregator { stats, inward: Arc::new(Desks(Arc::downgrade(&shared))) }, ());
    let threads = Arc::new(Semaphore::new(args.loader_threads.max(1)));
    let loader: OnceLock<Mailbox<LoaderMsg>> = OnceLock::new();
    let source = args.source.clone();
    let loader = start!(loader, "loader", |stats| Loader { stats, source, ahead_max: args.loader_ahead, threads }, ());
    let (workload, care) = (args.workload.clone(), args.care);
    let desks = Arc::new(Desks(Arc::downgrade(&shared)));
    start!(
        shared.rank,
        "rank",
        |stats| RankActor { stats, workload, loader, vault, superior: desks, end: args.steps, board, phases, care },
        ()
    );

    let orders = Orders {
        rules: Rules {
            terms: args.terms,
            mixed: args.cluster.mixed,
            lanes: args.workload.lanes(),
            replicas: args.cluster.replicas,
            shards: shards.to_vec().into(),
            steps: args.steps,
            ranks_start: args.cluster.ranks_start,
            ranks_min: args.cluster.ranks_min,
            ranks_max: args.cluster.ranks_max,
            checkpoint_every: args.checkpoint_every,
            grace: SILENCE,
            quiet: QUIET,
            attempts: ATTEMPTS,
            care: args.care,
        },
        tensors: units.iter().map(|unit| unit.tensors.len()).collect(),
        loss_max: args.loss_max,
    };
    let draft = Draft {
        run: args.run.clone(),
        config: args.config,
        epoch: Epoch(0),
        step: Step(0),
        units: units.to_vec(),
        slots: args.workload.slots() as u32,
    };
    let office = Arc::new(LeaderOffice { shared: shared.clone(), draft, keep: args.checkpoint_keep });
    start!(shared.coordinator, "coordinator", |stats| CoordinatorActor { stats, me: me.node, orders, office }, ());

    crew.tasks.extend([
        tokio::spawn(accept(endpoint.clone())).abort_handle(),
        tokio::spawn(obey(args.orders, shared.clone())).abort_handle(),
        tokio::spawn(note(args.noted, shared.clone())).abort_handle(),
        tokio::spawn(beat(shared.clone())).abort_handle(),
        tokio::spawn(write_log(shared.clone())).abort_handle(),
        tokio::spawn(deny::keep_out(shared.clone())).abort_handle(),
    ]);
    // All actors are there: the search for the run begins.
    tokio::spawn(look(shared.clone()));

    let lost = || Ended { outcome: Outcome::Lost, because: "the node's root actor ended without a word".into() };
    let ended = ended.await.unwrap_or_else(|_| lost());
    let outcome = match ended.outcome {
        Outcome::Done => "done",
        Outcome::Stopped => "stopped",
        Outcome::Left => "left",
        Outcome::Lost => "failed",
        Outcome::Unusable => "unusable",
    };
    let step = shared.tail.next_step();
    shared.record(Event::Ended { step, outcome: outcome.into(), because: ended.because.clone() });
    crew.stand_down();
    let led = *shared.leading.borrow();
    match led {
        Some(epoch) => part(&shared, epoch).await,
        // Who led before has news that nobody else has.
        None => drop(tokio::time::timeout(PARTING_MAX, save_all(&shared)).await),
    }
    endpoint.close(&ended.because).await;
    node.stop(None);
    // The root actor stops its children first; one that hangs goes with the process.
    let _ = tokio::time::timeout(PARTING_MAX, node_task).await;
    drop(watching);
    Ok(ended)
}

/// What ends with a node, one that is dropped in the middle included: its tasks, its actors, and the calls in which its lanes wait.
struct Crew {
    shared: Arc<Shared>,
    tasks: Vec<AbortHandle>,
    root: Option<ActorCell>,
}

impl Crew {
    fn stand_down(&self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.stand_down();
        // Its children go with it.
        self.root.iter().for_each(ActorCell::kill);
        self.shared.close_epoch();
    }
}

/// Probes the store and learns from it who is denied; one that does not answer is asked again, as later on.
async fn probe(shared: &Arc<Shared>) -> Result<(), StoreError> {
    let began = Instant::now();
    loop {
        let ready = async {
            shared.store.probe(&nonce(shared)).await?;
            shared.read_denied().await
        };
        match ready.await {
            Err(error @ StoreError::Unavailable { .. }) if began.elapsed() < PROBE_MAX => {
                shared.record(Event::Waiting { because: format!("the store is away: {error}") });
                tokio::time::sleep(PROBE_AGAIN).await;
            }
            probed => return probed,
        }
    }
}

/// The leader goes last: its farewell is read, its lease released, its log saved.
async fn part(shared: &Arc<Shared>, epoch: Epoch) {
    let gone = async {
        let mut turn = tokio::time::interval(Duration::from_millis(5));
        while shared.links.iter().any(|link| link.certificate().role == Role::Node) {
            turn.tick().await;
        }
    };
    // Members that do not close their links in time have the reason in their last message.
    let _ = tokio::time::timeout(PARTING_MAX, gone).await;
    save_ledger(shared).await;
    save_events(shared, epoch, shared.tail.next_step()).await;
    if let Err(error) = (Lease { epoch, beat: 0, released: true }).write(&shared.store).await {
        tracing::warn!(%error, "the lease could not be released: the next start waits until it has been silent long enough");
    }
}

/// Links announce themselves to the router; what is left to do is to keep the door open.
async fn accept(endpoint: Arc<Endpoint<NodeRouter>>) {
    while endpoint.accept().await.is_some() {}
}

async fn obey(mut orders: mpsc::Receiver<Order>, shared: Arc<Shared>) {
    while let Some(order) = orders.recv().await {
        shared.tell(&shared.node, "node", NodeMsg::Ordered(order));
    }
}

async fn note(mut noted: mpsc::Receiver<Event>, shared: Arc<Shared>) {
    while let Some(event) = noted.recv().await {
        shared.record(event);
    }
}

/// Makes the log durable while this node leads.
async fn write_log(shared: Arc<Shared>) {
    let mut turn = tokio::time::interval(LOG_EVERY);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            _ = turn.tick() => {}
            () = shared.log.news() => {}
        }
        // A write is never cut: the loop may be aborted, this task goes on.
        let saving = shared.clone();
        drop(tokio::spawn(async move { save_all(&saving).await }).await);
    }
}

/// Moves the lease while this node leads.
async fn beat(shared: Arc<Shared>) {
    let mut lease = shared.lease.subscribe();
    let mut turn = tokio::time::interval(BEAT);
    turn.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut beat = 0;
    loop {
        let Some(epoch) = *lease.borrow_and_update() else {
            if lease.changed().await.is_err() {
                return;
            }
            continue;
        };
        beat += 1;
        if let Err(error) = (Lease { epoch, beat, released: false }).write(&shared.store).await {
            tracing::warn!(%error, "the lease could not be moved; training goes on, membership is frozen");
        }
        turn.tick().await;
    }
}
