//! Lints of actors.

use everstep_actors::desk::view::{ActorView, Item, Properties};

use super::{Case, Seen, ms};

const STUCK_MS: u64 = 30_000;
const RESTARTS: u32 = 3;

pub(super) fn failed(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    seen(case, |item, actor| {
        (item.state == "failed").then(|| match &actor.error {
            None => "failed, and told no reason".to_owned(),
            Some(error) if error.root_cause.is_empty() || error.root_cause == error.message => error.message.clone(),
            Some(error) => format!("{}, because {}", error.message, error.root_cause),
        })
    })
}

pub(super) fn stuck(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    seen(case, |_, actor| {
        let (handler, age) = (actor.handler.as_ref()?, actor.handler_ms?);
        (age > STUCK_MS).then(|| format!("at work in `{handler}` for {}", ms(age)))
    })
}

pub(super) fn filling(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    seen(case, |_, actor| {
        let full = actor.capacity > 0 && actor.depth.saturating_mul(2) >= actor.capacity;
        full.then(|| format!("{} of {} messages wait", actor.depth, actor.capacity))
    })
}

pub(super) fn restarts(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    seen(case, |_, actor| (actor.restarts >= RESTARTS).then(|| format!("was started anew {} times", actor.restarts)))
}

fn seen(case: &Case<'_>, says: impl Fn(&Item, &ActorView) -> Option<String>) -> Result<Vec<Seen>, &'static str> {
    let actors = case.live(|properties| if let Properties::Actor(actor) = properties { Some(actor) } else { None })?;
    Ok(actors.into_iter().filter_map(|(item, actor)| Some((item.reference.clone(), says(item, actor)?))).collect())
}
