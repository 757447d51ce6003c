//! What a link moves over loopback: bulk frames in GB/s, small frames in microseconds there and back; and what gather and reduce make of it.
//!
//! `cargo bench --bench exchange`, with `-- collectives` only the last table. Both ends are in this process and share its cores. Beside it TCP with TLS in the same process, in turn; `benches/peers/gloo.py`
//! is the peer of gather and reduce.
#![expect(clippy::print_stdout, reason = "the table is the result")]

use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use everstep::heap;
use everstep_actors::net::endpoint::{Endpoint, Options, Socket};
use everstep_actors::net::link::{Link, LinkDown, Payload};
use everstep_actors::net::tls::{Identity, Role, RunCa};
use everstep_actors::net::{Reject, Router};
use everstep_actors::protocol::ids::{Epoch, NodeId, Step, UnitId};
use everstep_actors::protocol::shard::default_shard_values;
use everstep_actors::wire::message::{DataHeader, DataKind};
use tokio::sync::mpsc;

#[path = "common/collectives.rs"]
mod collectives;
#[path = "common/tls.rs"]
mod tls;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const BULK: usize = 64 << 20;
const FRAMES: usize = 8;
const ROUNDS: usize = 5;
const TRIPS: usize = 3000;
const TURNS: usize = 3;

/// Hands on what arrives, and uses vectors again that were given back.
struct Arrivals {
    out: mpsc::UnboundedSender<(DataHeader, Vec<f32>)>,
    spare: Mutex<Vec<Vec<f32>>>,
}

impl Arrivals {
    fn spare(&self) -> MutexGuard<'_, Vec<Vec<f32>>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Router for Arrivals {
    type Control = u64;
    fn control(&self, _: NodeId, _: u64) {}
    fn admit(&self, _: NodeId, _: &DataHeader) -> std::result::Result<(), Reject> {
        Ok(())
    }
    fn buffer(&self, _: usize) -> Vec<f32> {
        self.spare().pop().unwrap_or_default()
    }
    fn data(&self, _: NodeId, header: DataHeader, values: Vec<f32>) {
        let _ = self.out.send((header, values));
    }
    fn down(&self, _: NodeId, _: LinkDown) {}
}

struct End {
    _endpoint: Arc<Endpoint<Arrivals>>,
    router: Arc<Arrivals>,
    link: Link<u64>,
    arrivals: mpsc::UnboundedReceiver<(DataHeader, Vec<f32>)>,
}

async fn pair(payload: u16) -> Result<(End, End)> {
    let ca = RunCa::generate("bench")?;
    let open = || -> Result<_> {
        let (sender, arrivals) = mpsc::unbounded_channel();
        let socket = Socket::from_inner(Socket::bind(([127, 0, 0, 1], 0).into())?.into_inner(), payload)?;
        let identity = Identity::issue(&ca, Role::Node, Duration::from_secs(3600))?;
        let router = Arc::new(Arrivals { out: sender, spare: Mutex::default() });
        Ok((Arc::new(Endpoint::over(socket, identity, Options::default(), router.clone(), None)?), router, arrivals))
    };
    let ((a, router_a, from_b), (b, router_b, from_a)) = (open()?, open()?);
    let (ab, ba) = tokio::join!(a.connect(b.local_addr()?, None), b.accept());
    let ba = ba.ok_or("the endpoint was closed")?;
    Ok((
        End { _endpoint: a, router: router_a, link: ab?, arrivals: from_b },
        End { _endpoint: b, router: router_b, link: ba, arrivals: from_a },
    ))
}

fn header(length: usize) -> DataHeader {
    let (epoch, step, unit, length) = (Epoch(1), Step(0), UnitId(0), length as u64);
    let kind = DataKind::Gathered;
    DataHeader { epoch, step, kind, call: 0, unit, start: 0, length, lanes_start: 0, lanes_end: 1, group_start: 0, group_end: 1 }
}

/// One way, from the first send to the last arrival: GB/s and GB per CPU second of both ends, medians of the rounds.
async fn bulk(a: &End, b: &mut End, reuse: bool) -> Result<(f64, f64)> {
    let values = Arc::new(vec![1.0f32; BULK / 4]);
    let header = header(values.len());
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..=ROUNDS {
        let (start, cpu) = (Instant::now(), cpu_seconds()?);
        for _ in 0..FRAMES {
            a.link.send(&header, Payload::from(values.clone())).await?;
        }
        for _ in 0..FRAMES {
            let (_, got) = b.arrivals.recv().await.ok_or("the link ended")?;
            assert_eq!(got.len(), values.len());
            if reuse {
                b.router.spare().push(got);
            }
        }
        let gigabytes = (FRAMES * BULK) as f64 / 1e9;
        rates.push(gigabytes / start.elapsed().as_secs_f64());
        costs.push(gigabytes / (cpu_seconds()? - cpu));
    }
    b.router.spare().clear();
    Ok((median(rates), median(costs)))
}

/// The median without the first round, which finds the packet size and fills the spare vectors.
fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.remove(0);
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// User and system time of this process (Linux: fields 14 and 15 of `/proc/self/stat`, in hundredths).
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').ok_or("no process name")?.1.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// Microseconds there and back: the median and the 99th percentile.
async fn round_trips(a: &mut End, b: &mut End, bytes: usize) -> Result<(f64, f64)> {
    let values = Arc::new(vec![1.0f32; bytes / 4]);
    let header = header(values.len());
    let mut times = Vec::with_capacity(TRIPS);
    let echo = async {
        while let Some((header, values)) = b.arrivals.recv().await {
            b.link.send(&header, values.into()).await?;
        }
        Err("the link ended".into())
    };
    let ask = async {
        for _ in 0..TRIPS {
            let start = Instant::now();
            a.link.send(&header, Payload::from(values.clone())).await?;
            a.arrivals.recv().await.ok_or("the link ended")?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
        Ok(())
    };
    tokio::select! {
        done = ask => done,
        failed = echo => failed,
    }
    .map_err(|error: Box<dyn Error>| error)?;
    times.sort_by(f64::total_cmp);
    Ok((times[TRIPS / 2], times[TRIPS * 99 / 100]))
}

/// Gather and reduce of 64 MiB between two nodes, beside TLS that does the same; GB/s of one way, of 32 MiB each way at once (what nccl-tests call bus bandwidth).
async fn in_turn() -> Result<()> {
    let rate = |times: Vec<f64>| (BULK / 2) as f64 / 1e9 / median(times);
    // What a model of this size is cut into, and one of ten billion parameters.
    let shards = [BULK / 4, 9_628_923_288].map(default_shard_values);
    println!("| values of a shard | gather of 64 MiB, GB/s | TLS | reduce | TLS | link, one way | TLS |\n|---|---|---|---|---|---|---|");
    for shard in std::iter::repeat_n(shards, TURNS).flatten() {
        let (gather, reduce) = collectives::collectives(BULK / 4, shard, ROUNDS + 1).await?;
        let peer = tokio::task::spawn_blocking(|| tls::collectives(BULK / 4, ROUNDS + 1)).await?;
        let (peer_gather, peer_reduce) = peer.map_err(|error| error.to_string())?;
        let (a, mut b) = pair(Socket::bind(([127, 0, 0, 1], 0).into())?.max_payload()).await?;
        let (link, _) = bulk(&a, &mut b, true).await?;
        let peer = tokio::task::spawn_blocking(|| tls::one_way(BULK, FRAMES, ROUNDS + 1)).await?.map_err(|error| error.to_string())?;
        let peer = 2.0 * FRAMES as f64 * rate(peer);
        let (gather, peer_gather, reduce, peer_reduce) = (rate(gather), rate(peer_gather), rate(reduce), rate(peer_reduce));
        println!("| {shard} | {gather:.3} | {peer_gather:.3} | {reduce:.3} | {peer_reduce:.3} | {link:.3} | {peer:.3} |");
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    heap::keep();
    if std::env::args().any(|arg| arg == "collectives") {
        return in_turn().await;
    }
    let chosen = Socket::bind(([127, 0, 0, 1], 0).into())?.max_payload();
    println!("packets here: {chosen} bytes (from the receive buffer that the kernel grants)");
    println!(
        "| packet, bytes | MTU found | {FRAMES} x 64 MiB, GB/s (per CPU s) | with vectors used again | 256 B p50 / p99, us | 64 KiB p50 / p99, us |"
    );
    println!("|---|---|---|---|---|---|");
    for payload in [65_000, 8_952, 1_452] {
        let (mut a, mut b) = pair(payload).await?;
        let (fresh, fresh_cpu) = bulk(&a, &mut b, false).await?;
        let (again, again_cpu) = bulk(&a, &mut b, true).await?;
        let mtu = a.link.stats().mtu;
        let (small, small_late) = round_trips(&mut a, &mut b, 256).await?;
        let (large, large_late) = round_trips(&mut a, &mut b, 64 << 10).await?;
        println!(
            "| {payload} | {mtu} | {fresh:.3} ({fresh_cpu:.3}) | {again:.3} ({again_cpu:.3}) | {small:.0} / {small_late:.0} | {large:.0} / {large_late:.0} |"
        );
    }
    println!();
    in_turn().await
}
