//! `everstep fork`: a new run that begins with a state of another.

use bytes::Bytes;
use everstep_actors::checkpoint;
use everstep_actors::store::{Created, Store};
use everstep_actors::workload::Workload as _;

use super::output;
use crate::cli::{ExitCode, Failure, ForkArgs};
use crate::config::{Override, Recipe};
use crate::examine::{RECIPE_KEY, Run};
use crate::setup;

/// Copies a checkpoint into a new run, with the recipe of the old one and what `--set` changes of it.
///
/// # Errors
/// There is no such state, the place of the new run is taken, or the changed recipe describes another network.
pub fn run(args: &ForkArgs) -> Result<(), Failure> {
    let run = Run::open(&args.from)?;
    let manifest = run.checkpoint(args.step)?;
    let overrides = args.set.iter().map(|text| Override::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let recipe = Recipe::from_text(&format!("{}/{RECIPE_KEY}", args.from), &run.recipe().resolved()?, &overrides)?;
    let job = setup::reading(&recipe)?;
    if job.units() != manifest.units {
        let what = "the changed recipe describes another network than the checkpoint holds: leave the keys under [model] as they are";
        return Err(Failure::new(ExitCode::Config, what));
    }
    let resolved = recipe.resolved()?;
    let to = Store::open(&args.run)?;
    run.wait(async |from: &Store| {
        // The recipe goes last: a fork that breaks off leaves no run behind.
        if to.head(RECIPE_KEY).await?.is_some() {
            return Err(taken(&args.run));
        }
        for part in &manifest.parts {
            let body = from.get(&part.key, part.bytes).await?;
            to.put(&part.key, body).await?;
        }
        checkpoint::publish(&to, &manifest).await?;
        match to.create(RECIPE_KEY, Bytes::from(resolved)).await? {
            Created::Mine => Ok(()),
            Created::Exists(_) => Err(taken(&args.run)),
        }
    })?;
    let place = &args.run;
    output::print(&format!(
        "{place} begins with the {} steps of {}; go on with: everstep train {place}/{RECIPE_KEY} --run {place}",
        manifest.step.0, args.from
    ))
}

fn taken(place: &str) -> Failure {
    Failure::new(ExitCode::Refused, format!("{place} holds a run already: give another --run"))
}
