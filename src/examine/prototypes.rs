//! How a run's prototypes share out a set of images: what collapse looks like from outside.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use serde::Serialize;

use super::batches::over_batches;
use super::{LeftOut, Probe};
use crate::cli::{ExitCode, Failure};
use crate::data::Source;
use crate::data::examples::ExampleBatch;
use crate::model::ops;
use crate::model::ops::batch_norm::values;
use crate::model::pass::{Norms, Pass};
use crate::swav::monitor;
use crate::train::Swav;

/// The use of the prototypes: each image counts for the one that is nearest to its embedding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PrototypeUse {
    /// Entropy of the counts as a share of ln K: 1 when all are used alike, 0 when one is.
    pub entropy: f64,
    /// Prototypes.
    pub prototypes: usize,
    /// Those that are nearest to no image.
    pub unused: usize,
    /// Share of the images for which the most used one is nearest.
    pub largest: f64,
    /// Images.
    pub images: u64,
    /// What could not be decoded.
    pub left_out: LeftOut,
}

/// Counts over all images of a source, labelled or not, in evaluation mode. `weights`: all units of the model.
///
/// # Errors
/// The source cannot be read, or none of its images can be decoded.
pub fn prototype_use(job: &Swav, weights: &[Arc<Vec<f32>>], source: &Source, probe: &Probe) -> Result<PrototypeUse, Failure> {
    let (k, threads) = (job.model().count(), std::num::NonZeroUsize::new(probe.threads).unwrap_or(std::num::NonZeroUsize::MIN));
    let samples: Vec<u64> = (0..source.len()).collect();
    let size = probe.view.size as usize;
    let parts = over_batches(source, &samples, probe.view, threads, |batch: ExampleBatch| {
        let n = batch.samples.len();
        let counts = if n > 0 { monitor::usage(&scores(job, weights, batch.pixels, [n, 3, size, size]), k) } else { vec![0; k] };
        (counts, batch.bad)
    })?;
    let (mut counts, mut left_out) = (vec![0u32; k], LeftOut::default());
    for (part, bad) in parts {
        counts.iter_mut().zip(part).for_each(|(sum, count)| *sum += count);
        left_out.unreadable.extend(bad);
    }
    let images: u64 = counts.iter().copied().map(u64::from).sum();
    if let (0, Some(bad)) = (images, left_out.unreadable.first()) {
        let what = format!("none of its images can be decoded, for instance {}: {}", bad.name, bad.reason);
        return Err(Failure::new(ExitCode::Config, format!("{}: {what}", source.place())));
    }
    let largest = f64::from(counts.iter().copied().max().unwrap_or(0)) / images.max(1) as f64;
    let unused = counts.iter().filter(|count| **count == 0).count();
    Ok(PrototypeUse { entropy: monitor::entropy(&counts), prototypes: k, unused, largest, images, left_out })
}

/// Scores `[n, prototypes]` of images `[n, 3, height, width]` in evaluation mode.
fn scores(job: &Swav, weights: &[Arc<Vec<f32>>], images: Vec<f32>, shape: [usize; 4]) -> Vec<f32> {
    let model = job.model();
    let mut x = Tensor::<4>::from_data(TensorData::new(images, shape), job.device());
    for (layout, flat) in model.trunk().iter().zip(weights) {
        x = Pass::new(layout, flat, job.device(), false, Norms::Running).trunk(x);
    }
    let unit = |id: everstep_actors::protocol::ids::UnitId| &weights[id.0 as usize];
    let z = Pass::new(model.head(), unit(model.head_id()), job.device(), false, Norms::Running).head(ops::pool(x));
    values(Pass::new(model.prototypes(), unit(model.prototypes_id()), job.device(), false, Norms::Running).scores(z))
}
