//! A run opened for reading.

use std::sync::Arc;

use everstep_actors::checkpoint::{self, CheckpointError, Condition, Listing, Manifest, OnBad, PassedOver};
use everstep_actors::protocol::ids::Step;
use everstep_actors::store::{Store, StoreError};
use everstep_actors::workload::Workload as _;

use crate::cli::{ExitCode, Failure};
use crate::config::Recipe;
use crate::setup;
use crate::train::Swav;

/// Where a run keeps its resolved recipe.
pub const RECIPE_KEY: &str = "recipe.toml";
/// No recipe is longer than this many bytes.
const RECIPE_MAX: u64 = 1 << 20;

/// A run as its readers see it; nothing is written.
#[derive(Debug)]
pub struct Run {
    /// Where it lives.
    pub store: Store,
    /// Its resolved recipe.
    pub recipe: Recipe,
    /// What it trains.
    pub job: Arc<Swav>,
}

/// A checkpoint that verified from end to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What it holds.
    pub manifest: Manifest,
    /// Newer ones that are damaged.
    pub passed_over: Vec<PassedOver>,
}

impl Run {
    /// Opens the run at a location.
    ///
    /// # Errors
    /// [`ExitCode::NotFound`] when there is no run, [`ExitCode::Config`] when its recipe cannot be used, else what the store answered.
    pub async fn open(location: &str) -> Result<Self, Failure> {
        let store = Store::open_existing(location)?;
        let text = match store.get(RECIPE_KEY, RECIPE_MAX).await {
            Ok(text) => text,
            Err(StoreError::NotFound { .. }) => {
                let what = format!("{location} holds no run (it has no {RECIPE_KEY}); give the location that was trained to");
                return Err(Failure::new(ExitCode::NotFound, what));
            }
            Err(error) => return Err(error.into()),
        };
        let recipe = Recipe::from_text(&store.at(RECIPE_KEY), &String::from_utf8_lossy(&text), &[])?;
        // The number of steps shapes the schedule alone, which readers do not follow.
        let job = setup::workload(&recipe, recipe.run.steps.unwrap_or(1))?;
        Ok(Self { store, recipe, job: Arc::new(job) })
    }

    /// The checkpoint of a step, or the newest intact one. Every byte of it has been read and compared with its digest.
    ///
    /// # Errors
    /// [`ExitCode::NotFound`] when there is none, [`ExitCode::Unhealthy`] when it is damaged (names the part) or none is intact.
    pub async fn checkpoint(&self, step: Option<u64>) -> Result<Verified, Failure> {
        match step {
            Some(step) => self.checkpoint_of(Step(step)).await,
            None => self.newest().await,
        }
    }

    async fn newest(&self) -> Result<Verified, Failure> {
        let found = checkpoint::newest_intact(&self.store, OnBad::Leave).await?;
        let Some(manifest) = found.manifest else {
            let place = self.store.place();
            return Err(match found.passed_over.first() {
                Some(bad) => Failure::new(
                    ExitCode::Unhealthy,
                    format!("{place} has no intact checkpoint: that of step {} is no use, {}: {}", bad.step.0, bad.place, bad.damage),
                ),
                None => Failure::new(ExitCode::NotFound, format!("{place} has no checkpoint yet; train on until it has one")),
            });
        };
        Ok(Verified { manifest, passed_over: found.passed_over })
    }

    async fn checkpoint_of(&self, step: Step) -> Result<Verified, Failure> {
        let listings = checkpoint::list(&self.store).await?;
        let of_step: Vec<&Listing> = listings.iter().filter(|listing| listing.step == step).collect();
        let place = self.store.place();
        let set_aside = of_step.iter().find_map(|listing| match &listing.condition {
            Condition::SetAside(damage) => Some(damage),
            _ => None,
        });
        match (of_step.iter().any(|listing| !matches!(listing.condition, Condition::SetAside(_))), set_aside) {
            (true, _) => {}
            (false, Some(damage)) => {
                let what = format!("the checkpoint of step {} in {place} was set aside: {damage}; use another step", step.0);
                return Err(Failure::new(ExitCode::Unhealthy, what));
            }
            (false, None) => {
                let steps: Vec<String> = listings.iter().map(|listing| listing.step.0.to_string()).collect();
                let has = if steps.is_empty() { "none at all yet".into() } else { format!("those of {}", steps.join(", ")) };
                let what = format!("{place} has no checkpoint of step {}, only {has}; name one of its steps", step.0);
                return Err(Failure::new(ExitCode::NotFound, what));
            }
        }
        let manifest = checkpoint::load(&self.store, step).await?;
        match checkpoint::verify(&self.store, &manifest).await?.into_iter().next() {
            None => Ok(Verified { manifest, passed_over: Vec::new() }),
            Some((_, PassedOver { place, damage, .. })) => Err(CheckpointError::Damaged { place, damage }.into()),
        }
    }

    /// The weights of a checkpoint: the flat vector of each unit, optimizer slots left behind.
    ///
    /// # Errors
    /// [`ExitCode::Unhealthy`] when a part is damaged or holds another network than the recipe describes.
    pub async fn weights_of(&self, manifest: &Manifest) -> Result<Vec<Arc<Vec<f32>>>, Failure> {
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

    /// Steps committed and the weights of the checkpoint of a step, or of the newest intact one.
    ///
    /// # Errors
    /// As [`Run::checkpoint`] and [`Run::weights_of`].
    pub async fn weights(&self, step: Option<u64>) -> Result<(u64, Vec<Arc<Vec<f32>>>), Failure> {
        let manifest = self.checkpoint(step).await?.manifest;
        Ok((manifest.step.0, self.weights_of(&manifest).await?))
    }
}
