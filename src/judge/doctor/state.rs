//! Lints of the state: shards, checkpoints, the ledger.

use everstep_actors::desk::view::{CheckpointView, Properties, ShardView};

use super::{Case, Seen, ms};

const LAG_STEPS: u64 = 4;
const OLD_MS: u64 = 3_600_000;
const LEDGER_STEPS: u64 = 256;

pub(super) fn without_copy(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let (_, run) = case.going()?;
    let alone = |shard: &ShardView| shard.copies.iter().all(|copy| *copy == shard.owner) && run.ranks >= 2;
    let shards = case.live(shard)?;
    let seen = shards.iter().filter(|(item, shard)| item.state == "lost" || alone(shard));
    let says = |state: &str, owner: &str| if state == "lost" { "nobody holds it".to_owned() } else { format!("only {owner} holds it") };
    Ok(seen.map(|(item, shard)| (item.reference.clone(), says(&item.state, &shard.owner))).collect())
}

pub(super) fn lag(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    case.going()?;
    let shards = case.live(shard)?;
    let seen = shards.iter().filter(|(_, shard)| shard.lag > LAG_STEPS);
    Ok(seen.map(|(item, shard)| (item.reference.clone(), format!("its oldest copy is {} steps behind", shard.lag))).collect())
}

pub(super) fn checkpoint_old(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let (_, run) = case.going()?;
    let newest = checkpoints(case).filter(|(item, _)| item.state == "intact").max_by_key(|(_, checkpoint)| checkpoint.step);
    let Some((item, checkpoint)) = newest else {
        if run.checkpoint.is_some() {
            return Err("it is not known when the newest checkpoint was saved");
        }
        let age = case.story.known_ms().map_or(0, |(first, _)| case.now_ms.saturating_sub(first));
        let none = run.step > 0 && age >= OLD_MS;
        return Ok(if none { vec![("run".to_owned(), format!("no checkpoint in {} of training", ms(age)))] } else { Vec::new() });
    };
    if item.since_ms == 0 {
        return Err("it is not known when the newest checkpoint was saved");
    }
    let age = case.now_ms.saturating_sub(item.since_ms);
    // Nothing is at stake while no step was committed since.
    let old = age >= OLD_MS && run.step > checkpoint.step;
    Ok(if old {
        vec![(item.reference.clone(), format!("saved {} ago, {} steps are not in it", ms(age), run.step - checkpoint.step))]
    } else {
        Vec::new()
    })
}

pub(super) fn checkpoint_damaged(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    if checkpoints(case).next().is_none() {
        return Err("there is no checkpoint yet");
    }
    let damaged = checkpoints(case).filter(|(item, _)| item.state == "damaged");
    Ok(damaged.map(|(item, checkpoint)| (item.reference.clone(), format!("damaged: see {}", checkpoint.manifest))).collect())
}

pub(super) fn ledger_behind(case: &Case<'_>) -> Result<Vec<Seen>, &'static str> {
    let (_, run) = case.run()?;
    let behind = run.step.saturating_sub(run.ledger);
    Ok(if behind > LEDGER_STEPS { vec![("run".to_owned(), format!("{behind} steps are not in the ledger"))] } else { Vec::new() })
}

fn checkpoints<'a>(case: &Case<'a>) -> impl Iterator<Item = (&'a everstep_actors::desk::view::Item, &'a CheckpointView)> {
    case.all(|properties| if let Properties::Checkpoint(checkpoint) = properties { Some(checkpoint) } else { None })
}

fn shard(properties: &Properties) -> Option<&ShardView> {
    if let Properties::Shard(shard) = properties { Some(shard) } else { None }
}
