//! `everstep drain` and `undrain`: one node leaves the run in good order, or stays after all.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use everstep_actors::net::endpoint::{Endpoint, Options};
use everstep_actors::net::link::LinkDown;
use everstep_actors::net::tls::{Identity, Role, RunCa};
use everstep_actors::net::{Reject, Router};
use everstep_actors::protocol::ids::NodeId;
use everstep_actors::protocol::record::{EpochRecord, Member};
use everstep_actors::roles::records;
use everstep_actors::store::Store;
use everstep_actors::wire::message::{Control, DataHeader};
use tokio::sync::mpsc;

use super::output;
use crate::cli::{DrainArgs, ExitCode, Failure, NodeArgs};

/// A node that lives answers within this.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// An operator's certificate is made for one order.
const CERTIFICATE_FOR: Duration = Duration::from_secs(300);

/// Tells a node to hand over what it holds and leave.
///
/// # Errors
/// There is no such node, or it does not answer.
pub fn drain(args: &DrainArgs) -> Result<(), Failure> {
    let deadline_ms = args.deadline.map(|seconds| (seconds * 1e3) as u64);
    let name = order(&args.node, &Control::Drain { because: "drained by an operator".into(), deadline_ms })?;
    output::print(&format!("{name} hands over what it holds at the end of this step, then leaves; `everstep status` shows when it is gone"))
}

/// Tells a node to stay.
///
/// # Errors
/// As [`drain`].
pub fn undrain(args: &NodeArgs) -> Result<(), Failure> {
    let name = order(args, &Control::Undrain)?;
    output::print(&format!("{name} stays, if it has not left yet"))
}

/// Sends an order to a node of the newest epoch and waits for its answer; how people know the node.
fn order(args: &NodeArgs, message: &Control) -> Result<String, Failure> {
    let secrets = crate::launch::secrets(&args.run, args.secrets.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(ExitCode::Internal, format!("no threads can be started: {error}")))?;
    runtime.block_on(async {
        let store = Store::open_existing(&args.run)?;
        let record = records::newest(&store).await?;
        let record = record.ok_or_else(|| Failure::new(ExitCode::NotFound, format!("{} holds no run that was ever started", args.run)))?;
        let member = find(&record, &args.node)?;
        let name = record.name(member.node);
        say(member, &secrets, message).await.map_err(|because| {
            Failure::new(ExitCode::Unreachable, format!("{name} cannot be told: {because}; see `everstep status --run {}`", args.run))
        })?;
        Ok(name)
    })
}

fn find<'a>(record: &'a EpochRecord, node: &str) -> Result<&'a Member, Failure> {
    let by_rank = node.strip_prefix('r').and_then(|rank| rank.parse::<usize>().ok()).and_then(|rank| record.members.get(rank));
    let named: Vec<&Member> = match by_rank {
        Some(member) => vec![member],
        None => record.everyone().filter(|member| node.len() >= 2 && member.node.to_string().starts_with(node)).collect(),
    };
    let all = || record.members.iter().enumerate().map(|(rank, member)| format!("r{rank} {}", member.node)).collect::<Vec<_>>().join(", ");
    match named[..] {
        [member] => Ok(member),
        [] => Err(Failure::new(ExitCode::NotFound, format!("no node {node:?} is in {}: there are {}", record.epoch, all()))),
        _ => Err(Failure::new(ExitCode::NotFound, format!("{node:?} is the beginning of several nodes: {}", all()))),
    }
}

async fn say(member: &Member, secrets: &Path, message: &Control) -> Result<(), String> {
    // Nothing is made by an order.
    if !secrets.exists() {
        return Err(format!("the run's certificates are not at {}: give --secrets", secrets.display()));
    }
    let ca = RunCa::load_or_create(secrets, "run").map_err(|error| error.to_string())?;
    let identity = Identity::issue(&ca, Role::Admin, CERTIFICATE_FOR).map_err(|error| error.to_string())?;
    let address: std::net::SocketAddr = member.address.parse().map_err(|_| format!("its address {} cannot be dialled", member.address))?;
    let bind = if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let (answer, mut answers) = mpsc::channel(1);
    let endpoint = Endpoint::bind(bind, identity, Options::default(), Arc::new(Asking(answer)), None).map_err(|error| error.to_string())?;
    let told = async {
        let link = endpoint.connect(address, Some(member.node)).await.map_err(|error| error.to_string())?;
        link.control(message).await.map_err(|error| error.to_string())?;
        answers.recv().await.ok_or_else(|| "it went away".to_owned())?;
        link.close("obeyed").await;
        Ok(())
    };
    let told = tokio::time::timeout(ANSWER_WITHIN, told).await.unwrap_or_else(|_| Err("it does not answer".into()));
    endpoint.close("done").await;
    told
}

/// What comes back: that it is being done.
struct Asking(mpsc::Sender<()>);

impl Router for Asking {
    type Control = Control;
    fn control(&self, _: NodeId, message: Control) {
        if message == Control::Obeyed {
            // A second answer is of no use.
            let _ = self.0.try_send(());
        }
    }
    fn admit(&self, _: NodeId, _: &DataHeader) -> Result<(), Reject> {
        Err(Reject("an operator takes no data".into()))
    }
    fn data(&self, _: NodeId, _: DataHeader, _: Vec<f32>) {}
    fn down(&self, _: NodeId, _: LinkDown) {}
}
