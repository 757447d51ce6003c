//! The collectives of an epoch between two nodes over their link: one unit in shards, each node the owner of one half.

use std::error::Error;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use everstep_actors::net::endpoint::{Endpoint, Options, Socket};
use everstep_actors::net::link::{Link, LinkDown, Payload};
use everstep_actors::net::tls::{Identity, Role, RunCa};
use everstep_actors::net::{Reject, Router};
use everstep_actors::protocol::ids::{Epoch, Lane, NodeId, Rank, Step, UnitId};
use everstep_actors::protocol::plan::{Place, Plan};
use everstep_actors::protocol::shard::{self, Shard, UnitShape};
use everstep_actors::roles::exchange::{Exchange, Inward, Lanes, Layout, Outbound, Outgoing};
use everstep_actors::wire::message::DataHeader;
use everstep_actors::workload::{Collective, Wire};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::mpsc;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Hands frames to the exchange.
struct ToExchange {
    exchange: OnceLock<Arc<Exchange>>,
    from: Rank,
}

impl Router for ToExchange {
    type Control = u64;
    fn control(&self, _: NodeId, _: u64) {}
    fn admit(&self, _: NodeId, header: &DataHeader) -> std::result::Result<(), Reject> {
        let exchange = self.exchange.get().ok_or_else(|| Reject("no exchange yet".into()))?;
        exchange.admit(header).map_err(|because| Reject(because.to_string()))
    }
    fn lands(&self, _: NodeId, header: &DataHeader, values: usize) -> bool {
        self.exchange.get().is_some_and(|exchange| exchange.lands(header, values))
    }
    fn land(&self, _: NodeId, header: &DataHeader, at: usize, piece: &[u8]) {
        if let Some(exchange) = self.exchange.get() {
            exchange.land(header, at, piece);
        }
    }
    fn data(&self, _: NodeId, header: DataHeader, values: Vec<f32>) {
        if let Some(exchange) = self.exchange.get() {
            exchange.on_data(self.from, header, values);
        }
    }
    fn down(&self, _: NodeId, _: LinkDown) {}
}

struct ToLink(Link<u64>);

impl Outbound for ToLink {
    fn send(&self, frame: Outgoing) -> BoxFuture<'static, ()> {
        let link = self.0.clone();
        async move {
            let payload =
                if frame.range.is_empty() { Payload::empty() } else { Payload::shared(frame.values, frame.range).expect("in range") };
            link.send(&frame.header, payload).await.expect("the link holds");
        }
        .boxed()
    }
}

struct Told(mpsc::UnboundedSender<()>);

impl Inward for Told {
    fn reduced(&self, _: Step) {
        let _ = self.0.send(());
    }
    fn partial(&self, _: DataHeader, _: Vec<f32>) {}
    fn broken(&self, because: String) {
        panic!("{because}");
    }
}

struct Node {
    _endpoint: Arc<Endpoint<ToExchange>>,
    exchange: Arc<Exchange>,
    reduced: mpsc::UnboundedReceiver<()>,
}

/// Seconds of each round of gather and of reduce, of a vector of so many values: until both nodes have what they need.
pub(crate) async fn collectives(values: usize, shard_values: usize, rounds: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut nodes = nodes(values, shard_values).await?;
    let (mut gathers, mut reduces) = (Vec::new(), Vec::new());
    for step in (0..rounds as u64).map(Step) {
        let begun = Instant::now();
        // Each node has threads of its own.
        let gathered = |rank: usize| tokio::spawn(Lanes(nodes[rank].exchange.clone()).gather(step, Lane(rank as u32), UnitId(0)));
        let (a, b) = tokio::join!(gathered(0), gathered(1));
        gathers.push(begun.elapsed().as_secs_f64());
        assert!(a?? == b??, "both have the same");

        let gradients = [vec![1.0; values], vec![2.0; values]];
        let [first, second] = gradients;
        let begun = Instant::now();
        let reduce =
            |rank: usize, gradient| tokio::spawn(Lanes(nodes[rank].exchange.clone()).reduce(step, Lane(rank as u32), UnitId(0), gradient));
        let (a, b) = tokio::join!(reduce(0, first), reduce(1, second));
        a?.and(b?)?;
        for node in &mut nodes {
            node.reduced.recv().await.ok_or("the exchange ended")?;
        }
        reduces.push(begun.elapsed().as_secs_f64());
        for node in &nodes {
            let mean = node.exchange.take_reduced();
            assert!(mean.values().all(|mean| mean.iter().all(|value| *value == 1.5)), "the mean of 1 and 2");
            node.exchange.commit(step, mean);
        }
    }
    Ok((gathers, reduces))
}

async fn nodes(values: usize, shard_values: usize) -> Result<[Node; 2]> {
    let ca = RunCa::generate("bench")?;
    let open = |from| -> Result<_> {
        let router = Arc::new(ToExchange { exchange: OnceLock::new(), from: Rank(from) });
        let identity = Identity::issue(&ca, Role::Node, std::time::Duration::from_secs(3600))?;
        let socket = Socket::bind(([127, 0, 0, 1], 0).into())?;
        Ok((Arc::new(Endpoint::over(socket, identity, Options::default(), router.clone(), None)?), router))
    };
    let ((a, router_a), (b, router_b)) = (open(1)?, open(0)?);
    let (ab, ba) = tokio::join!(a.connect(b.local_addr()?, None), b.accept());
    let ba = ba.ok_or("the endpoint was closed")?;
    let node = |rank: u32, endpoint, router: &ToExchange, link| {
        let (told, reduced) = mpsc::unbounded_channel();
        let layout = layout(rank, values, shard_values);
        let mine = layout.shards.iter().zip(&layout.plan.places).filter(|(_, place)| place.owner == Rank(rank));
        let committed = mine.map(|(shard, _)| (shard.id, Arc::new(vec![0.5; shard.range.len()]))).collect();
        let exchange = Exchange::new(layout, Step(0), committed, Arc::new(ToLink(link)), Arc::new(Told(told)));
        let _ = router.exchange.set(exchange.clone());
        Node { _endpoint: endpoint, exchange, reduced }
    };
    Ok([node(0, a, &router_a, ab?), node(1, b, &router_b, ba)])
}

/// Two ranks of one lane each; no replicas, as the peers have none.
fn layout(rank: u32, values: usize, shard_values: usize) -> Layout {
    let shards = shard::cut(&[UnitShape { length: values, row: 1 }], shard_values);
    let owner = |shard: &Shard| Rank(u32::from(shard.range.start >= values / 2));
    let places = shards.iter().map(|shard| Place { shard: shard.id, owner: owner(shard), replicas: Vec::new() }).collect();
    let plan = Plan { lanes: vec![(0, 1), (1, 2)], places };
    Layout { epoch: Epoch(1), rank: Rank(rank), plan, lanes: 2, shards, wires: vec![Wire::default()], gathered_values_max: values }
}
