//! How a node enters an epoch: it reports what it holds, meets the others, gets what is its own, and is ready.

use futures::StreamExt;

use super::super::transfer::Missed;
use super::super::vault::ShardState;
use super::*;
use crate::protocol::ids::UnitId;
use crate::protocol::plan::{Place, Plan};
use crate::protocol::word::Move;

/// How long members wait for each other's connections when an epoch begins, on quick paths.
const MEETING_MAX: Duration = Duration::from_secs(2);
/// The pace at which a member that does not answer is dialled again.
const DIAL_AGAIN: Duration = Duration::from_millis(200);
/// Copies that are fetched at the same time.
const FETCHES: usize = 8;

/// What came of loading.
pub type Loaded = Result<Shards, Hindrance>;

/// Why this node is not ready.
#[derive(Debug)]
pub enum Hindrance {
    /// The epoch has ended.
    Aborted,
    /// What is to be said to the leader.
    Say(Box<Word>),
}

impl<W: Workload> NodeActor<W> {
    /// The epoch before is over here; what is held is reported to the leader of this one.
    pub(super) fn enter(&self, state: &mut State, record: Arc<EpochRecord>, rehash: bool) {
        state.begun = None;
        self.shared.open_epoch(EpochRecord::clone(&record));
        let held = self.report(rehash);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            if let Ok(held) = held.await {
                shared.send(record.leader, Control::Word(Word::Holdings { epoch: record.epoch, held }));
            }
        });
    }

    pub(super) fn fence(&self, epoch: Epoch) {
        tracing::debug!(%epoch, "this epoch is released: no vote is cast in it any more");
        self.shared.close_epoch();
        let held = self.report(false);
        let shared = self.shared.clone();
        tokio::spawn(async move {
            if let Ok(held) = held.await {
                shared.tell(&shared.node, "node", NodeMsg::Fact(Fact::Held(held)));
            }
        });
    }

    fn report(&self, rehash: bool) -> oneshot::Receiver<Vec<Held>> {
        let (reply, held) = oneshot::channel();
        self.shared.tell(&self.shared.rank, "rank", RankMsg::Fence { rehash, reply });
        held
    }

    /// The epoch goes on from here: who has a rank gets its copies and meets the others.
    pub(super) fn begin(&self, state: &mut State, epoch: Epoch, beginning: Box<Beginning>) {
        let Some(record) = state.machine.record().filter(|record| record.epoch == epoch).cloned() else { return };
        if let Some(view) = self.shared.epoch().filter(|view| view.record.epoch == epoch) {
            // It begins once.
            let _ = view.plan.set(beginning.plan.clone());
        }
        self.shared.vault.begin(beginning.version);
        // Its leader may have gone between the last vote and its word.
        if let Some(last) = beginning.version.step.0.checked_sub(1) {
            self.shared.committed(beginning.version.epoch, Step(last));
        }
        self.shared.record(began(&record, &beginning, &self.shared.shards, self.workload.slots()));
        state.begun = Some((record.clone(), beginning.clone()));
        let (shared, endpoint) = (self.shared.clone(), self.endpoint.clone());
        let Some(rank) = record.rank_of(shared.me) else {
            // Who fetches copies from here may be a node that waits to be dialled. It is the one to complain, not this.
            tokio::spawn(async move { meet(&shared, &endpoint, &record).await.is_ok() });
            return;
        };
        let loading = Loading { shared, endpoint, record, beginning, rank };
        let workload = self.workload.clone();
        tokio::spawn(async move {
            // Copies come over links: without one there is nothing to wait for.
            let meeting = meet(&loading.shared, &loading.endpoint, &loading.record);
            let result = tokio::try_join!(loading.shards(workload), meeting).map(|(shards, ())| shards);
            let shared = loading.shared.clone();
            shared.tell(&shared.node, "node", NodeMsg::Loaded { epoch, result });
        });
    }

    pub(super) fn loaded(&self, state: &mut State, epoch: Epoch, result: Loaded) {
        let Some((record, beginning)) = state.begun.as_ref().filter(|(record, _)| record.epoch == epoch) else { return };
        if state.machine.record().is_none_or(|current| current.epoch != epoch) {
            return;
        }
        let shards = match result {
            Ok(shards) => shards,
            Err(Hindrance::Aborted) => return,
            Err(Hindrance::Say(word)) => return self.shared.send(record.leader, Control::Word(*word)),
        };
        let Some(rank) = record.rank_of(self.shared.me) else { return };
        let layout = Layout {
            epoch,
            rank,
            lanes: self.workload.lanes(),
            plan: Plan::clone(&beginning.plan),
            shards: self.shared.shards.to_vec(),
            wires: (0..self.workload.units().len() as u32).map(|unit| self.workload.wire(UnitId(unit))).collect(),
            gathered_values_max: self.gathered_values_max,
        };
        let lanes = beginning.plan.lanes_of(rank);
        let committed = shards.iter().map(|(id, shard)| (*id, shard.values.clone())).collect();
        let node = Arc::downgrade(&self.shared);
        let outbound = Arc::new(Wires { shared: node.clone(), members: record.members.iter().map(|member| member.node).collect() });
        let exchange = Exchange::new(layout, beginning.version.step, committed, outbound, Arc::new(Desks(node)));
        let ranks = record.members.iter().enumerate().map(|(rank, member)| (member.node, Rank(rank as u32))).collect();
        self.shared.set_term(TermView { exchange: exchange.clone(), ranks });
        self.shared.tell(&self.shared.rank, "rank", RankMsg::Begin { exchange, lanes, shards });
        self.shared.send(record.leader, Control::Word(Word::Ready { epoch }));
    }
}

fn began(record: &EpochRecord, beginning: &Beginning, shards: &[Shard], slots: usize) -> Event {
    let members = record.members.iter().zip(&beginning.plan.lanes).enumerate().map(|(rank, (member, lanes))| MemberInfo {
        node: member.node,
        rank: rank as u32,
        host: member.host.clone(),
        pid: member.pid,
        lanes: *lanes,
    });
    let values = |moved: &Move| shards.iter().find(|shard| shard.id == moved.shard).map_or(0, |shard| shard.range.len());
    let moved: usize = beginning.moves.iter().map(values).sum();
    Event::EpochBegan {
        epoch: record.epoch,
        step: beginning.version.step,
        leader: record.leader,
        members: members.collect(),
        because: record.because.clone(),
        state_from: match beginning.origin {
            Origin::Seed => "seed".to_owned(),
            Origin::Checkpoint { step } => format!("checkpoint {}", step.0),
            Origin::Copies => "copies".to_owned(),
        },
        moved_bytes: (moved * (1 + slots) * 4) as u64,
        state_epoch: beginning.version.epoch,
        copies: copies(&beginning.plan),
    }
}

fn copies(plan: &Plan) -> Vec<Vec<u32>> {
    let ranks = |place: &Place| place.copies().map(|rank| rank.0).collect::<BTreeSet<u32>>();
    let sets: BTreeSet<BTreeSet<u32>> = plan.places.iter().map(ranks).collect();
    sets.into_iter().map(|set| set.into_iter().collect()).collect()
}

/// One node's way to its copies.
pub(super) struct Loading {
    shared: Arc<Shared>,
    endpoint: Arc<Endpoint<NodeRouter>>,
    record: EpochRecord,
    beginning: Box<Beginning>,
    rank: Rank,
}

impl Loading {
    async fn shards<W: Workload>(&self, workload: Arc<W>) -> Loaded {
        let ids: BTreeSet<ShardId> = self.beginning.plan.shards_of(self.rank).collect();
        let mine: Vec<Shard> = self.shared.shards.iter().filter(|shard| ids.contains(&shard.id)).cloned().collect();
        match self.beginning.origin {
            Origin::Seed => self.seeded(workload, mine).await,
            Origin::Checkpoint { step } => self.read(step, mine, workload.slots()).await,
            Origin::Copies => {
                self.fetch().await?;
                let held = |shard: &Shard| Some((shard.id, self.shared.vault.get(shard.id, self.beginning.version)?));
                mine.iter().map(|shard| held(shard).ok_or(Hindrance::Aborted)).collect()
            }
        }
    }

    async fn seeded<W: Workload>(&self, workload: Arc<W>, mine: Vec<Shard>) -> Loaded {
        let seeded = aside(move || {
            let shards = mine.into_iter().map(|shard| {
                let values = workload.init(shard.id.unit, shard.range.clone());
                let slots = vec![vec![0.0; values.len()]; workload.slots()];
                (shard.id, ShardState { start: shard.range.start, values: Arc::new(values), slots: Arc::new(slots) })
            });
            shards.collect::<Shards>()
        });
        let shards = seeded.await.map_err(|error| self.failed(format!("the initial values could not be made: {error}")))?;
        self.keep(shards).await
    }

    async fn read(&self, step: Step, mine: Vec<Shard>, slots: usize) -> Loaded {
        let store = &self.shared.store;
        let failed = |error: checkpoint::CheckpointError| self.failed(error.to_string());
        let manifest = checkpoint::load(store, step).await.map_err(failed)?;
        let mut shards = BTreeMap::new();
        for shard in mine {
            let part = checkpoint::read_part(store, &manifest, shard.id).await.map_err(failed)?;
            if part.start != shard.range.start || part.values.len() != shard.range.len() || part.slots.len() != slots {
                return Err(self.failed(format!(
                    "shard {} of the checkpoint after step {} has another shape than the recipe's; use the recipe of the run",
                    shard.id, step.0
                )));
            }
            shards.insert(shard.id, ShardState { start: part.start, values: Arc::new(part.values), slots: Arc::new(part.slots) });
        }
        self.keep(shards).await
    }

    /// Puts what came from the seed or the store into the vault: from now on it is a copy like others.
    async fn keep(&self, shards: Shards) -> Loaded {
        let (vault, version) = (self.shared.vault.clone(), self.beginning.version);
        let kept = aside(move || {
            shards.iter().for_each(|(id, shard)| vault.put(*id, version, shard.digest(), shard.clone()));
            shards
        });
        kept.await.map_err(|_| Hindrance::Aborted)
    }

    /// Fetches the copies that move here.
    async fn fetch(&self) -> Result<(), Hindrance> {
        let everyone: Vec<&Member> = self.record.everyone().collect();
        let mine = self.beginning.moves.iter().filter(|moved| moved.to == self.rank.0);
        let fetches = mine.filter_map(|moved| Some(self.fetch_one(moved, everyone.get(moved.from as usize)?.node)));
        let mut fetched = futures::stream::iter(fetches.collect::<Vec<_>>()).buffer_unordered(FETCHES);
        while let Some(one) = fetched.next().await {
            one?;
        }
        Ok(())
    }

    async fn fetch_one(&self, moved: &Move, holder: NodeId) -> Result<(), Hindrance> {
        let (shared, epoch, version) = (&self.shared, self.record.epoch, self.beginning.version);
        let Some(shard) = shared.shards.iter().find(|shard| shard.id == moved.shard) else { return Err(Hindrance::Aborted) };
        let answer = shared.transfers.expect(epoch, shard.id);
        let want = shared.transfers.want(epoch, shard, version);
        let link = shared.link_to(holder).await.ok_or(Hindrance::Aborted)?;
        link.send(&want, Payload::empty()).await.map_err(|_| Hindrance::Aborted)?;
        match shared.transfers.take(answer, shard, version, moved.digest).await {
            Ok(_) => Ok(()),
            Err(Missed::Aborted) => Err(Hindrance::Aborted),
            Err(Missed::Bad) => Err(Hindrance::Say(Box::new(Word::BadCopy { epoch, holder, shard: shard.id }))),
        }
    }

    fn failed(&self, because: String) -> Hindrance {
        Hindrance::Say(Box::new(Word::Failed { epoch: self.record.epoch, outcome: Outcome::Lost, because, fault: None }))
    }
}

/// Connects to everyone in the epoch: the lower id dials, the other waits.
async fn meet(shared: &Arc<Shared>, endpoint: &Arc<Endpoint<NodeRouter>>, record: &EpochRecord) -> Result<(), Hindrance> {
    let me = shared.me;
    let dials = record.everyone().filter(|member| member.node > me).map(|member| async move {
        while !shared.links.contains_key(&member.node) {
            let Ok(address) = member.address.parse::<SocketAddr>() else { return };
            if !shared.dial(endpoint, member.node, address).await {
                tokio::time::sleep(DIAL_AGAIN).await;
            }
        }
    });
    let dialling = futures::future::join_all(dials);
    let mut linked = shared.linked.subscribe();
    let absent = || record.everyone().filter(|member| member.node != me && !shared.links.contains_key(&member.node));
    let all = async {
        while absent().next().is_some() {
            if linked.changed().await.is_err() {
                return;
            }
        }
    };
    let met = async { tokio::join!(dialling, all) };
    let patience = async {
        tokio::time::sleep(MEETING_MAX).await;
        // Paths may have become slow just now: by this time that is known.
        tokio::time::sleep(shared.slowness()).await;
    };
    tokio::select! {
        biased;
        _ = met => return Ok(()),
        () = patience => {}
    }
    let nodes: Vec<NodeId> = absent().map(|member| member.node).collect();
    if nodes.is_empty() { Ok(()) } else { Err(Hindrance::Say(Box::new(Word::Unmet { epoch: record.epoch, nodes }))) }
}
