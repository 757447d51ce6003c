//! Starting a node, and ending it in good order.

use super::*;

/// Runs a node until the run ends for it.
///
/// # Errors
/// [`NodeError`] when it could not be started; how the run itself ends is [`Ended`].
pub async fn run<W: Workload>(args: NodeArgs<W>) -> Result<Ended, NodeError> {
    let shared = Arc::new(Shared {
        me: args.identity.id(),
        host: args.host.clone(),
        links: DashMap::new(),
        linked: watch::channel(0).0,
        node: OnceLock::new(),
        rank: OnceLock::new(),
        aggregator: OnceLock::new(),
        coordinator: OnceLock::new(),
        desk: OnceLock::new(),
        term: RwLock::new(None),
        leader: RwLock::new(None),
        events: args.events,
        unsaved: Mutex::default(),
        store: args.store.clone(),
    });
    let router = Arc::new(NodeRouter(shared.clone()));
    let endpoint = Arc::new(Endpoint::bind(args.bind, args.identity, Options::default(), router, None)?);
    let address = endpoint.local_addr().map_err(|error| BindError::Io { address: args.bind, error })?.to_string();
    let me = Member { node: shared.me, address, host: args.host, pid: std::process::id(), slot: args.slot };
    args.store.probe(&nonce(shared.me)).await?;
    let table = Arc::new(ActorTable::default());
    let units: Arc<[_]> = args.workload.units().into();
    let shapes: Vec<UnitShape> = units.iter().map(|unit| UnitShape { length: unit.len(), row: unit.row }).collect();
    let shards = Arc::new(cut(&shapes, args.shard_values));

    let (finished, ended) = oneshot::channel();
    let (writer, _) = CheckpointWriter::spawn(
        None,
        CheckpointWriter,
        WriterConfig { in_flight: 2, ..WriterConfig::new(args.store.clone(), &args.run, units.clone()) },
    )
    .await
    .map_err(|error| NodeError::Spawn("checkpoint writer", error.to_string()))?;
    let stats = table.register("node", MAILBOX_MAX);
    let node = NodeActor {
        stats: stats.clone(),
        shared: shared.clone(),
        workload: args.workload.clone(),
        endpoint: endpoint.clone(),
        shards: shards.clone(),
        writer: writer.clone(),
        gathered_values_max: args.gathered_values_max,
        finished: Mutex::new(Some(finished)),
    };
    let (node, node_task) = Actor::spawn(None, node, ()).await.map_err(|error| NodeError::Spawn("node", error.to_string()))?;
    writer.link(node.get_cell());
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
    start!(shared.desk, "desk", |stats| Desk { stats, table: table.clone(), me: me.node, steps: args.steps }, ());
    start!(shared.aggregator, "aggregator", |stats| Aggregator { stats, inward: Arc::new(Desks(shared.clone())) }, ());
    let threads = Arc::new(Semaphore::new(args.loader_threads.max(1)));
    let loader: OnceLock<Mailbox<LoaderMsg>> = OnceLock::new();
    let source = args.source.clone();
    let loader = start!(loader, "loader", |stats| Loader { stats, source, ahead_max: args.loader_ahead, threads }, ());
    let workload = args.workload.clone();
    let desks = Arc::new(Desks(shared.clone()));
    start!(shared.rank, "rank", |stats| RankActor { stats, workload, loader, superior: desks, end: args.steps }, ());

    // Before the search: whoever finds a record of ours may ask to join at once.
    let orders = Orders {
        terms: args.terms.clone(),
        ranks: args.ranks,
        lanes: args.workload.lanes(),
        images: args.images,
        shards: shards.to_vec(),
        tensors: units.iter().map(|unit| unit.tensors.len()).collect(),
        steps: args.steps,
        checkpoint_every: args.checkpoint_every,
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
    start!(shared.coordinator, "coordinator", |stats| Coordinator { stats, me: me.node, orders, office }, ());

    let accepting = tokio::spawn(accept(endpoint.clone()));
    let ordering = tokio::spawn(obey(args.orders, shared.clone()));

    let search = finding::find_or_lead(&args.store, &endpoint, &me, || nonce(me.node), |because| shared.record(Event::Waiting { because }));
    let leader_of = match search.await? {
        Found::Lead(epoch) => {
            *shared.leader.write().unwrap_or_else(PoisonError::into_inner) = Some(me.node);
            shared.tell(&shared.coordinator, "coordinator", CoordinatorMsg::Lead { epoch });
            Some(epoch)
        }
        Found::Follow(leader) => {
            *shared.leader.write().unwrap_or_else(PoisonError::into_inner) = Some(leader);
            None
        }
    };
    let beating = leader_of.map(|_| tokio::spawn(beat(shared.clone())));
    if let Some(leader) = shared.leader() {
        let Terms { build, recipe, hardware } = args.terms;
        let join = Join { address: me.address.clone(), host: me.host.clone(), pid: me.pid, slot: me.slot, build, recipe, hardware };
        shared.send(leader, Control::Join(join));
    }

    let lost = || Ended { outcome: Outcome::Lost, because: "the node's root actor ended without a word".into() };
    let ended = ended.await.unwrap_or_else(|_| lost());
    let outcome = match ended.outcome {
        Outcome::Done => "done",
        Outcome::Stopped => "stopped",
        Outcome::Lost => "failed",
        Outcome::Unusable => "unusable",
    };
    let (step, epoch) = shared.term().map_or((Step(0), Epoch(0)), |term| (term.exchange.step(), term.exchange.epoch()));
    shared.record(Event::Ended { step, outcome: outcome.into(), because: ended.because.clone() });
    accepting.abort();
    ordering.abort();
    if let Some(beating) = beating {
        beating.abort();
        part(&shared, epoch.max(leader_of.unwrap_or_default())).await;
    }
    endpoint.close(&ended.because).await;
    node.stop(None);
    // The root actor stops its children first.
    let _ = node_task.await;
    Ok(ended)
}

/// The leader goes last: its farewell is read, its lease released, its log saved.
async fn part(shared: &Arc<Shared>, epoch: Epoch) {
    let gone = async {
        let mut turn = tokio::time::interval(Duration::from_millis(5));
        while !shared.links.is_empty() {
            turn.tick().await;
        }
    };
    // Members that do not close their links in time have the reason in their last message.
    let _ = tokio::time::timeout(PARTING_MAX, gone).await;
    let step = shared.term().map_or(Step(0), |term| term.exchange.step());
    save_events(shared, epoch, step).await;
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

async fn beat(shared: Arc<Shared>) {
    let mut turn = tokio::time::interval(BEAT);
    let mut beat = 0;
    loop {
        turn.tick().await;
        beat += 1;
        let epoch = match shared.term() {
            Some(term) => term.exchange.epoch(),
            None => match finding::newest_record(&shared.store).await {
                Ok(Some(record)) => record.epoch,
                _ => continue,
            },
        };
        if let Err(error) = (Lease { epoch, beat, released: false }).write(&shared.store).await {
            tracing::warn!(%error, "the lease could not be moved; training goes on, membership is frozen");
        }
    }
}
