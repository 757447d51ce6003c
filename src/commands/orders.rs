//! Orders to a run: drain, undrain, pause, resume, checkpoint now, kill, stop. Each is refused or done, and says which.

use everstep_actors::desk::order::{Answer, Order};
use everstep_actors::net::tls::Role;
use everstep_actors::protocol::ids::NodeId;
use everstep_actors::protocol::record::{EpochRecord, Member};
use serde_json::json;

use crate::cli::desk::{At, DrainArgs, Form, KillArgs, NodeRef, Ordering, RunAt, StopArgs};
use crate::cli::{ExitCode, Failure};
use crate::desk::client::{Desk, Way};
use crate::desk::dry_run;
use crate::judge::SCHEMA_VERSION;
use crate::judge::layout::{Shapes, shaped};

impl RunAt {
    /// The way to the run.
    pub fn way(&self) -> Way<'_> {
        Way { run: &self.run, secrets: self.secrets.as_deref(), certificate: self.certificate.as_deref() }
    }
}

/// Tells a node to hand over what it holds and leave, or only says what would move.
///
/// # Errors
/// There is no such node, or it does not answer, or it refuses.
pub async fn drain(args: &At<Ordering<DrainArgs>>) -> Result<ExitCode, Failure> {
    let (drain, form) = (&args.what.order, args.what.form);
    if drain.dry_run {
        let desk = Desk::open(args.at.way(), Role::Viewer).await?;
        let record = desk.record().await?;
        let node = find(&record, &drain.node)?.node;
        let text = dry_run::drain(&desk, &record, node).await;
        desk.close().await;
        return told(form, node, "drain --dry-run", text?.trim_end().to_owned());
    }
    let deadline_ms = drain.deadline.map(|seconds| (seconds * 1e3) as u64);
    let order = Order::Drain { because: "drained by an operator".into(), deadline_ms };
    to_node(&args.at, &drain.node, &order, form, "; `everstep status` shows when it is gone").await
}

/// Tells a node to stay.
///
/// # Errors
/// As [`drain`].
pub async fn undrain(args: &At<Ordering<NodeRef>>) -> Result<ExitCode, Failure> {
    to_node(&args.at, &args.what.order, &Order::Undrain, args.what.form, "").await
}

/// Ends a node's process, as a crash would, or one of its actors, as a failure of its own would.
///
/// # Errors
/// As [`drain`]; without `--yes` it is refused.
pub async fn kill(args: &At<Ordering<KillArgs>>) -> Result<ExitCode, Failure> {
    let kill = &args.what.order;
    let (node, order) = match kill.what.strip_prefix("actor/").map(|rest| rest.split_once('/')) {
        Some(Some((node, name))) if !name.is_empty() => (node, Order::KillActor { name: name.into() }),
        Some(_) => return Err(Failure::new(ExitCode::Usage, format!("{:?} names no actor: use actor/NODE/NAME", kill.what))),
        None => (kill.what.as_str(), Order::Kill),
    };
    let node = NodeRef { node: node.into() };
    if !kill.yes {
        let what = &kill.what;
        let harm = if order == Order::Kill { "the process of " } else { "" };
        let node = &node.node;
        return Err(Failure::new(
            ExitCode::Refused,
            format!("kill ends {harm}{what} without a word: say --yes if that is meant, or use `everstep drain {node}`"),
        ));
    }
    to_node(&args.at, &node, &order, args.what.form, "").await
}

/// Ends the run: in good order, or at once and without a last checkpoint.
///
/// # Errors
/// As [`to_leader`].
pub async fn stop(args: &At<Ordering<StopArgs>>) -> Result<ExitCode, Failure> {
    to_leader(args, if args.what.order.now { &Order::StopNow } else { &Order::Stop }).await
}

/// An order that the leader carries out.
///
/// # Errors
/// Nobody leads, or the leader does not answer, or refuses.
pub async fn to_leader<T: clap::Args>(args: &At<Ordering<T>>, order: &Order) -> Result<ExitCode, Failure> {
    let desk = Desk::open(args.at.way(), Role::Admin).await?;
    let record = desk.record().await?;
    let leader = record.leading().ok_or_else(|| Failure::new(ExitCode::NotFound, "the newest record names no leader"))?;
    let said = desk.order(leader, &record, order).await;
    desk.close().await;
    say(args.what.form, leader.node, order, said?, "")
}

async fn to_node(at: &RunAt, node: &NodeRef, order: &Order, form: Form, hint: &str) -> Result<ExitCode, Failure> {
    let desk = Desk::open(at.way(), Role::Admin).await?;
    let record = desk.record().await?;
    let member = find(&record, node)?;
    let said = desk.order(member, &record, order).await;
    desk.close().await;
    say(form, member.node, order, said?, hint)
}

fn say(form: Form, node: NodeId, order: &Order, (name, answer): (String, Answer), hint: &str) -> Result<ExitCode, Failure> {
    match answer {
        Answer::Done { what } => told(form, node, order.name(), format!("{name}: {what}{hint}")),
        Answer::Refused { because } => Err(Failure::new(ExitCode::Refused, format!("{name} refuses: {because}"))),
    }
}

/// What came of an order, or would come of it.
fn told(form: Form, node: NodeId, order: &str, answer: String) -> Result<ExitCode, Failure> {
    let node = format!("node/{node}");
    let whole = json!({ "schema_version": SCHEMA_VERSION, "order": order, "node": node, "answer": answer });
    let (text, parts) = (answer.lines().map(str::to_owned).collect(), std::slice::from_ref(&whole));
    shaped(&mut std::io::stdout().lock(), form.output(), Shapes { text, whole: &whole, parts, names: vec![node] })?;
    Ok(ExitCode::Done)
}

pub(super) fn find<'a>(record: &'a EpochRecord, node: &NodeRef) -> Result<&'a Member, Failure> {
    let name = node.node.as_str();
    let rank = name.strip_prefix("rank/").or_else(|| name.strip_prefix('r'));
    let by_rank = rank.and_then(|rank| rank.parse::<usize>().ok()).and_then(|rank| record.members.get(rank));
    let id = name.strip_prefix("node/").unwrap_or(name);
    let begins = |node: NodeId| node.to_string().starts_with(id) || full(node).starts_with(id);
    let named: Vec<&Member> = match by_rank {
        Some(member) => vec![member],
        None => record.everyone().filter(|member| id.len() >= 2 && begins(member.node)).collect(),
    };
    let all = || record.members.iter().enumerate().map(|(rank, member)| format!("r{rank} {}", member.node)).collect::<Vec<_>>().join(", ");
    match named[..] {
        [member] => Ok(member),
        [] => Err(Failure::new(ExitCode::NotFound, format!("no node {name:?} is in {}: there are {}", record.epoch, all()))),
        _ => Err(Failure::new(ExitCode::NotFound, format!("{name:?} is the beginning of several nodes: {}", all()))),
    }
}

fn full(node: NodeId) -> String {
    node.0.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use everstep_actors::protocol::ids::Epoch;
    use everstep_actors::protocol::record::Claim;

    use super::*;

    #[test]
    fn a_node_is_found_by_rank_or_by_the_beginning_of_its_id() {
        let member = |n: u8| Member::new(NodeId([n; 16]), "", "box", u32::from(n));
        let members = vec![member(0x11), member(0x12)];
        let record = EpochRecord {
            epoch: Epoch(3),
            nonce: String::new(),
            leader: members[0].node,
            claim: Claim::Fresh,
            members,
            others: Vec::new(),
            because: String::new(),
        };
        let found =
            |name: &str| find(&record, &NodeRef { node: name.into() }).map(|member| member.slot).map_err(|failure| failure.sentence);
        for (name, slot) in [("r1", 0x12), ("rank/0", 0x11), ("node/1212", 0x12), (full(NodeId([0x11; 16])).as_str(), 0x11)] {
            assert_eq!(found(name), Ok(slot), "{name}");
        }
        assert!(found("r7").unwrap_err().contains("there are r0 "));
        assert!(found("1").is_err(), "one character is too little");
    }
}
