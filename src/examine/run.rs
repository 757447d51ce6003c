//! A run opened for reading.

use std::sync::Arc;

use everstep_actors::checkpoint::{self, CheckpointError, Condition, Listing, Manifest, OnBad, PassedOver};
use everstep_actors::protocol::ids::Step;
use everstep_actors::store::{Store, StoreError};
use everstep_actors::workload::Workload as _;
use tokio::runtime::Runtime;

use crate::cli::{ExitCode, Failure};
use crate::config::Recipe;
use crate::setup;
use crate::train::Swav;

/// Where a run keeps its resolved recipe.
pub const RECIPE_KEY: &str = "recipe.toml";
/// No recipe is longer than this many bytes.
const RECIPE_MAX: u64 = 1 << 20;

/// The flat vector of each unit.
pub type Weights = Vec<Arc<Vec<f32>>>;

/// A run as its readers see it; nothing is written. Its calls wait: they are for threads outside of any runtime.
#[derive(Debug)]
pub struct Run {
    store: Store,
    recipe: Recipe,
    job: Swav,
    runtime: Runtime,
}

impl Run {
    /// Opens the run at a location.
    ///
    /// # Errors
    /// [`ExitCode::NotFound`] when there is no run, [`ExitCode::Config`] when its recipe cannot be used, else what the store answered.
    pub fn open(location: &str) -> Result<Self, Failure> {
        let runtime = runtime()?;
        let store = Store::open_existing(location)?;
        let text = match runtime.block_on(store.get(RECIPE_KEY, RECIPE_MAX)) {
            Ok(text) => text,
            Err(StoreError::NotFound { .. }) => {
                let what = format!("{location} holds no run (it has no {RECIPE_KEY}); give the location that was trained to");
                return Err(Failure::new(ExitCode::NotFound, what));
            }
            Err(error) => return Err(error.into()),
        };
        let recipe = Recipe::from_text(&store.at(RECIPE_KEY), &String::from_utf8_lossy(&text), &[])?;
        let job = setup::reading(&recipe)?;
        Ok(Self { store, recipe, job, runtime })
    }

    /// Where it lives, as the user named it.
    pub fn place(&self) -> &str {
        self.store.place()
    }
    /// Its resolved recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.recipe
    }
    /// What it trains.
    pub fn job(&self) -> &Swav {
        &self.job
    }
    /// Waits for calls on the run's store.
    pub(crate) fn wait<T>(&self, calls: impl AsyncFnOnce(&Store) -> T) -> T {
        self.runtime.block_on(calls(&self.store))
    }

    /// The checkpoint of a step, or the newest intact one. Every byte of it has been read and compared with its digest.
    ///
    /// # Errors
    /// [`ExitCode::NotFound`] when there is none, [`ExitCode::Unhealthy`] when it is damaged (names the part) or none is intact.
    pub fn checkpoint(&self, step: Option<u64>) -> Result<Manifest, Failure> {
        self.runtime.block_on(async {
            let Some(step) = step else { return self.newest().await };
            let manifest = self.manifest(Step(step)).await?;
            match checkpoint::verify(&self.store, &manifest).await?.into_iter().next() {
                None => Ok(manifest),
                Some((_, PassedOver { place, damage, .. })) => Err(CheckpointError::Damaged { place, damage }.into()),
            }
        })
    }

    /// Steps committed and the weights of the checkpoint of a step, or of the newest intact one: the flat vector of each unit.
    /// Optimizer slots are left behind.
    ///
    /// # Errors
    /// As [`Run::checkpoint`], and [`ExitCode::Unhealthy`] when it holds another network than the recipe describes.
    pub fn weights(&self, step: Option<u64>) -> Result<(u64, Weights), Failure> {
        self.runtime.block_on(async {
            let manifest = match step {
                // Its parts are checked as they are read.
                Some(step) => self.manifest(Step(step)).await?,
                None => self.newest().await?,
            };
            Ok((manifest.step.0, self.assembled(&manifest).await?))
        })
    }

    async fn newest(&self) -> Result<Manifest, Failure> {
        let found = checkpoint::newest_intact(&self.store, OnBad::Leave).await?;
        let told = |bad: &PassedOver| format!("the checkpoint of step {} cannot be used ({}: {})", bad.step.0, bad.place, bad.damage);
        if let Some(manifest) = found.manifest {
            found.passed_over.iter().for_each(|bad| tracing::warn!("{}; that of step {} is used", told(bad), manifest.step.0));
            return Ok(manifest);
        }
        let place = self.place();
        Err(match found.passed_over.first() {
            Some(bad) => Failure::new(ExitCode::Unhealthy, format!("{place} has no intact checkpoint: {}", told(bad))),
            None => Failure::new(ExitCode::NotFound, format!("{place} has no checkpoint yet; train until it has one")),
        })
    }

    /// The manifest of a step; its parts are not looked at.
    async fn manifest(&self, step: Step) -> Result<Manifest, Failure> {
        match checkpoint::load(&self.store, step).await {
            Err(CheckpointError::Absent { .. }) => Err(self.absent(step, &checkpoint::list(&self.store).await?)),
            loaded => Ok(loaded?),
        }
    }

    /// Why there is no checkpoint of a step.
    fn absent(&self, step: Step, listings: &[Listing]) -> Failure {
        let mut steps = Vec::new();
        for listing in listings {
            match &listing.condition {
                Condition::SetAside(damage) if listing.step == step => {
                    let what = format!("the checkpoint of step {} in {} was set aside, {damage}; name another step", step.0, self.place());
                    return Failure::new(ExitCode::Unhealthy, what);
                }
                Condition::SetAside(_) => {}
                _ => steps.push(listing.step.0.to_string()),
            }
        }
        let place = self.place();
        let what = match steps.is_empty() {
            true => format!("{place} has no checkpoint yet; train until it has one"),
            false => format!("{place} has no checkpoint of step {}; name one of its steps {}", step.0, steps.join(", ")),
        };
        Failure::new(ExitCode::NotFound, what)
    }

    /// Whole units out of a checkpoint's parts.
    async fn assembled(&self, manifest: &Manifest) -> Result<Weights, Failure> {
        let step = manifest.step.0;
        if manifest.units != self.job.units() {
            let place = self.store.at(RECIPE_KEY);
            let what = format!("the checkpoint of step {step} holds another network than {place} describes; restore that file");
            return Err(Failure::new(ExitCode::Unhealthy, what));
        }
        let mut units: Vec<Vec<f32>> = self.job.units().iter().map(|unit| vec![0.0; unit.len()]).collect();
        for part in &manifest.parts {
            let shard = checkpoint::read_part(&self.store, manifest, part.shard).await?;
            // A manifest that loads covers each unit with parts of the right lengths.
            units[part.shard.unit.0 as usize][shard.start..shard.start + shard.values.len()].copy_from_slice(&shard.values);
        }
        Ok(units.into_iter().map(Arc::new).collect())
    }
}

/// A runtime for calls on the store.
fn runtime() -> Result<Runtime, Failure> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| Failure::new(ExitCode::Failed, format!("no runtime can be started ({error}); raise the limit of open files")))
}
