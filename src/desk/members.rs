//! Whom of a run's members to ask, and whose answer counts: the leader's, or the best that the others have.

use std::time::Duration;

use everstep_actors::desk::view::{Scope, View};
use everstep_actors::net::endpoint::ConnectError;
use everstep_actors::protocol::ids::NodeId;
use everstep_actors::protocol::record::{EpochRecord, Member};
use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};

/// A leader that lives has answered by then; the others are asked beside it from here on.
const HEAD_START: Duration = Duration::from_millis(250);
/// A question gets its answer within this or none.
const ANSWER_WITHIN: Duration = Duration::from_millis(900);
/// Members that are asked beside a leader that does not answer.
const OTHERS: usize = 8;
/// So many that do not take a certificate speak for all: denials and authorities are the whole run's.
const REFUSALS: usize = 2;

/// Why a member has not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NoAnswer {
    /// In words, with the remedy.
    pub(super) because: String,
    /// It lives, and does not take the certificate that was shown.
    pub(super) refused: bool,
}

impl From<String> for NoAnswer {
    fn from(because: String) -> Self {
        Self { because, refused: false }
    }
}

impl From<ConnectError> for NoAnswer {
    fn from(error: ConnectError) -> Self {
        Self { because: error.to_string(), refused: matches!(error, ConnectError::Refused { .. }) }
    }
}

/// Asks the leader, and everybody once it has not answered for a moment or does not speak for the run.
///
/// # Errors
/// Why the leader does not answer, where nobody does.
pub(super) async fn answer<F>(record: &EpochRecord, ask: impl Fn(Member) -> F) -> Result<View, String>
where
    F: Future<Output = (NodeId, Result<View, NoAnswer>)>,
{
    let leader = record.leading().ok_or("its newest record names no leader")?;
    let mut others: Vec<Member> = record.everyone().filter(|member| member.node != leader.node).take(OTHERS).cloned().collect();
    let mut asked = FuturesUnordered::from_iter([ask(leader.clone())]);
    let (head_start, until) = (Instant::now() + HEAD_START, Instant::now() + ANSWER_WITHIN);
    let (mut best, mut because, mut refusals): (Option<View>, _, _) = (None, "its leader does not answer".to_owned(), 0);
    loop {
        let told = tokio::select! {
            biased;
            told = asked.next() => told,
            () = sleep_until(head_start), if !others.is_empty() => {
                asked.extend(others.drain(..).map(&ask));
                continue;
            }
            () = sleep_until(until) => None,
        };
        let Some((node, told)) = told else { break };
        if node == leader.node {
            asked.extend(others.drain(..).map(&ask));
        }
        match told {
            Ok(view) if view.scope == Scope::Run => return Ok(view),
            Ok(view) => {
                // A member that knows another leader than the record has seen a newer epoch begin.
                let newer = |known: &View| view.run().zip(known.run()).is_some_and(|(new, old)| new.epoch > old.epoch);
                if best.as_ref().is_none_or(newer) {
                    best = Some(view);
                }
                if asked.len() <= usize::from(node != leader.node) {
                    break;
                }
            }
            Err(error) => {
                refusals += usize::from(error.refused);
                if node == leader.node {
                    because = error.because;
                }
                if refusals == REFUSALS {
                    break;
                }
            }
        }
    }
    best.ok_or(because)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use everstep_actors::desk::view::{Item, Properties, RunView, SCHEMA_VERSION};
    use everstep_actors::protocol::ids::Epoch;
    use everstep_actors::protocol::record::Claim;

    use super::*;

    /// What a member does that is asked.
    #[derive(Clone, Copy)]
    enum Does {
        Lead,
        Know(u64),
        Refuse,
        Go,
        KeepSilent,
    }

    fn node(number: u8) -> NodeId {
        NodeId([number; 16])
    }

    fn view(scope: Scope, epoch: u64) -> View {
        let properties = Properties::Run(RunView { epoch, ..RunView::default() });
        let (reference, state) = ("run".to_owned(), "training".to_owned());
        let run = Item { reference, parent: String::new(), children: Vec::new(), state, since_ms: 0, as_of_ms: 0, properties };
        View {
            schema_version: SCHEMA_VERSION,
            answered_by: String::new(),
            scope,
            as_of_ms: 0,
            missing: Vec::new(),
            matched: 1,
            items: vec![run],
        }
    }

    /// What is answered, and after how many milliseconds, where the first leads by the record.
    async fn asked(members: &[Does]) -> (Result<(Scope, u64), String>, u128) {
        let listed = (0..members.len() as u8).map(|rank| Member::new(node(rank), "127.0.0.1:1", "host", u32::from(rank)));
        let record = EpochRecord {
            epoch: Epoch(3),
            nonce: String::new(),
            leader: node(0),
            claim: Claim::Fresh,
            members: listed.collect(),
            others: Vec::new(),
            because: String::new(),
        };
        let ask = |member: Member| async move {
            let no = |because: &str, refused| Err(NoAnswer { because: format!("{because} {}", member.slot), refused });
            let told = match members[member.slot as usize] {
                Does::Lead => Ok(view(Scope::Run, 3)),
                Does::Know(epoch) => Ok(view(Scope::Node, epoch)),
                Does::Refuse => no("refused by", true),
                Does::Go => no("gone", false),
                Does::KeepSilent => pending().await,
            };
            (member.node, told)
        };
        let began = Instant::now();
        let told = answer(&record, ask).await;
        (told.map(|view| (view.scope, view.run().map_or(0, |run| run.epoch))), began.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_answers_for_all_and_others_where_it_does_not() {
        use Does::*;
        assert_eq!(asked(&[Lead, KeepSilent]).await, (Ok((Scope::Run, 3)), 0));
        assert_eq!(asked(&[KeepSilent, Know(3), Know(4), Know(2)]).await, (Ok((Scope::Node, 4)), 250), "the newest that is known");
        assert_eq!(asked(&[KeepSilent, Know(3), KeepSilent]).await, (Ok((Scope::Node, 3)), 900));
        assert_eq!(asked(&[Know(3), Know(4)]).await, (Ok((Scope::Node, 4)), 0), "who leads no more says so");
        assert_eq!(asked(&[KeepSilent, KeepSilent]).await, (Err("its leader does not answer".into()), 900));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_leader_that_is_gone_nor_for_the_silent_once_two_have_refused() {
        use Does::*;
        assert_eq!(asked(&[Go, Know(3)]).await, (Ok((Scope::Node, 3)), 0));
        assert_eq!(asked(&[Go, Lead, KeepSilent]).await, (Ok((Scope::Run, 3)), 0));
        assert_eq!(asked(&[Refuse, Refuse, KeepSilent]).await, (Err("refused by 0".into()), 0));
        assert_eq!(asked(&[Refuse]).await, (Err("refused by 0".into()), 0));
        assert_eq!(asked(&[Refuse, Know(3)]).await, (Ok((Scope::Node, 3)), 0), "an address that another run's node has by now");
    }
}
