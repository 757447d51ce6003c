//! What is remembered of an actor that has failed, for as long as its node is still there.
//!
//! No actor is started anew: its node leaves the run, and what it is and why is seen until then. The failure is the actor's own; the
//! node passes it on.

use std::error::Error;

use ractor::ActorId;

use super::*;

/// What ractor says of an actor that was killed.
pub(super) const KILLED: &str = "killed";

/// Why an actor ended that an operator killed.
#[derive(Debug, thiserror::Error)]
#[error("it was killed by an operator")]
pub(super) struct Killed;

/// Marks an actor as failed and its node as one that passes that on; what is told of it: one sentence, and which actor it was with the
/// first cause, where that is known.
pub(super) fn failed(
    table: &ActorTable,
    me: NodeId,
    node: &ActorStats,
    actor: ActorId,
    error: &(dyn Error + 'static),
) -> (String, Option<(String, String)>) {
    let (message, root_cause) = (error.to_string(), root_of(error));
    let Some(stats) = table.of(actor) else { return (format!("an actor of this node failed: {message}"), None) };
    let name = stats.name();
    let because = if message == root_cause {
        format!("its actor {name} failed: {message}")
    } else {
        format!("its actor {name} failed: {message}, because {root_cause}")
    };
    stats.died(message, root_cause.clone());
    let reference = format!("actor/{me}/{name}");
    node.failed(format!("this node leaves the run: its actor {name} failed"), root_cause.clone(), reference.clone());
    (because, Some((reference, root_cause)))
}

/// What lies under an error and everything between.
fn root_of(error: &(dyn Error + 'static)) -> String {
    let mut root = error;
    while let Some(under) = root.source() {
        root = under;
    }
    root.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the mean gradient cannot be used")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("shard 3 has another length")]
    struct Inner;

    /// Fails at its first message, in the one way or the other.
    struct Fails(Arc<ActorStats>);

    impl Actor for Fails {
        type Msg = bool;
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ActorRef<bool>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
        async fn handle(&self, _: ActorRef<bool>, panics: bool, (): &mut ()) -> Result<(), ActorProcessingErr> {
            let _at_work = self.0.handling("fails");
            assert!(!panics, "no lane of this number");
            Err(Outer(Inner).into())
        }
    }

    /// Stands for the node: tells what it is told of its children.
    struct Parent(mpsc::Sender<(ActorId, ActorProcessingErr)>);

    impl Actor for Parent {
        type Msg = ();
        type State = ();
        type Arguments = ();
        async fn pre_start(&self, _: ActorRef<()>, (): ()) -> Result<(), ActorProcessingErr> {
            Ok(())
        }
        async fn handle_supervisor_evt(&self, _: ActorRef<()>, event: SupervisionEvent, (): &mut ()) -> Result<(), ActorProcessingErr> {
            if let SupervisionEvent::ActorFailed(actor, error) = event {
                self.0.send((actor.get_id(), error)).await?;
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn an_actor_that_ended_by_an_error_or_a_panic_has_failed_and_its_node_passes_that_on() {
        for (panics, root_cause) in [(false, "shard 3 has another length"), (true, "no lane of this number")] {
            let (table, me) = (ActorTable::default(), NodeId([1; 16]));
            let (node, stats) = (table.register("node", 4), table.register("rank", 4));
            let (tell, mut told) = mpsc::channel(1);
            let (parent, _) = Actor::spawn(None, Parent(tell), ()).await.unwrap();
            let (actor, _) = Actor::spawn_linked(None, Fails(stats.clone()), (), parent.get_cell()).await.unwrap();
            Mailbox::new(actor, stats).try_send(panics).unwrap();
            let (actor, error) = told.recv().await.unwrap();
            let (because, fault) = failed(&table, me, &node, actor, error.as_ref());
            assert!(because.starts_with("its actor rank failed: ") && because.contains(root_cause), "{because}");
            let [node, rank] = table.reports().try_into().unwrap();
            let own = rank.failure.unwrap();
            assert!(rank.ended && own.root.is_empty() && own.root_cause.contains(root_cause), "{own:?}");
            let passed_on = node.failure.unwrap();
            assert_eq!(fault, Some((passed_on.root.clone(), passed_on.root_cause.clone())));
            assert_eq!((node.ended, passed_on.root, passed_on.root_cause), (false, format!("actor/{me}/rank"), own.root_cause));
        }
    }

    #[test]
    fn an_actor_that_nobody_knows_is_told_of_all_the_same() {
        let table = ActorTable::default();
        let (node, of) = (table.register("node", 4), ActorId::Local(77));
        let told = failed(&table, NodeId([1; 16]), &node, of, &Inner);
        assert_eq!(told, ("an actor of this node failed: shard 3 has another length".into(), None));
        assert_eq!(table.reports()[0].failure, None);
    }
}
