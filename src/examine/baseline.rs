//! What a trained trunk has to beat: the same network at random init, raw pixels, colours.

use std::sync::Arc;

use burn::tensor::{Tensor, TensorData};
use everstep_actors::protocol::ids::UnitId;
use everstep_actors::workload::TensorKind;
use serde::Serialize;

use super::batches::over_batches;
use super::exam::Exam;
use crate::cli::Failure;
use crate::data::examples::{ExampleBatch, View};
use crate::eval::baseline;
use crate::model::layout::Layout;
use crate::model::ops::batch_norm::{Moments, Sums};
use crate::model::pass::{Norms, Pass};
use crate::train::Swav;

/// Train images from which the running statistics of the network at random init are taken, at most.
pub const CALIBRATION_IMAGES: usize = 2048;
/// Raw pixels are compared at the view's size, but at most at this side: beyond it they only cost more.
pub const PIXELS_SIDE_MAX: u32 = 48;

/// kNN of what learned nothing, in percent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Baselines {
    /// The same trunk at random init, its batch norms calibrated.
    pub random_init: f64,
    /// The pixels of the view.
    pub raw_pixels: f64,
    /// 8 × 8 × 8 colour histogram of the view.
    pub colour_histogram: f64,
}

impl Exam<'_> {
    /// kNN of the three baselines on the same images with the same vote.
    ///
    /// # Errors
    /// As [`Exam::features`] and [`Exam::vote`].
    pub fn baselines(&self, job: &Swav) -> Result<Baselines, Failure> {
        let random_init = self.vote(&self.features(job, &random_init(self, job)?)?)?.top1;
        Ok(Baselines { random_init, raw_pixels: self.raw_pixels()?, colour_histogram: self.colour_histogram()? })
    }

    fn raw_pixels(&self) -> Result<f64, Failure> {
        let size = self.view.size.min(PIXELS_SIDE_MAX);
        let dim = 3 * (size * size) as usize;
        Ok(self.vote(&self.extract(View { size, ..self.view }, dim, &|pixels, _| pixels)?)?.top1)
    }

    fn colour_histogram(&self) -> Result<f64, Failure> {
        let view = View { mean: [0.0; 3], std: [1.0; 3], ..self.view };
        let extract = |pixels: Vec<f32>, n: usize| {
            let images = pixels.chunks_exact(pixels.len() / n);
            images.flat_map(|image| baseline::histogram(&interleaved(image))).collect()
        };
        Ok(self.vote(&self.extract(view, baseline::HISTOGRAM_DIM, &extract)?)?.top1)
    }
}

/// Three planes of values in 0..=1 as RGB8.
fn interleaved(planes: &[f32]) -> Vec<u8> {
    let plane = planes.len() / 3;
    (0..planes.len()).map(|i| (planes[i % 3 * plane + i / 3] * 255.0).round() as u8).collect()
}

/// One lane by itself: nothing to add up.
#[derive(Debug)]
struct Alone;

impl Sums for Alone {
    fn sum(&self, values: Vec<f32>) -> Arc<Vec<f32>> {
        Arc::new(values)
    }
    fn lanes(&self) -> usize {
        1
    }
}

/// The trunk's units at the run's random init, with batch-norm statistics to match.
///
/// A network straight from its init has running mean 0 and variance 1, which nobody measured; comparing with it would flatter the
/// training. So its running statistics are taken as PyTorch's cumulative average does (`momentum=None`): plain views of at most
/// [`CALIBRATION_IMAGES`] train images go through it in training mode, shuffled, and each batch norm gets the mean of its batches' means and
/// unbiased variances. Nothing else is changed.
///
/// # Errors
/// The source cannot be read.
pub fn random_init(exam: &Exam<'_>, job: &Swav) -> Result<Vec<Arc<Vec<f32>>>, Failure> {
    let model = job.model();
    let seed = job.settings().seed;
    let unit = |(id, layout): (usize, &Layout)| model.init(seed, UnitId(id as u32), 0..layout.unit.len());
    let mut units: Vec<Vec<f32>> = model.trunk().iter().enumerate().map(unit).collect();
    let size = exam.view.size as usize;
    let measured =
        over_batches(exam.train.source, &exam.train.shuffled(CALIBRATION_IMAGES), exam.view, exam.threads, |batch: ExampleBatch| {
            let n = batch.samples.len();
            (n > 0).then(|| moments(job, &units, batch.pixels, [n, 3, size, size]))
        })?;
    let measured: Vec<_> = measured.into_iter().flatten().collect();
    for (id, (layout, values)) in model.trunk().iter().zip(&mut units).enumerate() {
        write_means(layout, values, measured.iter().map(|batch| batch[id].as_slice()));
    }
    Ok(units.into_iter().map(Arc::new).collect())
}

/// The moments that each unit's batch norms measure on a batch.
fn moments(job: &Swav, units: &[Vec<f32>], pixels: Vec<f32>, shape: [usize; 4]) -> Vec<Vec<Arc<Moments>>> {
    let sums: Arc<dyn Sums> = Arc::new(Alone);
    let mut x = Tensor::<4>::from_data(TensorData::new(pixels, shape), job.device());
    let mut all = Vec::new();
    for (layout, flat) in job.model().trunk().iter().zip(units) {
        let mut pass = Pass::new(layout, flat, job.device(), false, Norms::Measured(sums.clone()));
        x = pass.trunk(x);
        all.push(pass.finish().0);
    }
    all
}

/// Sets a unit's running statistics to the means over `batches`.
fn write_means<'a>(layout: &Layout, values: &mut [f32], batches: impl ExactSizeIterator<Item = &'a [Arc<Moments>]>) {
    let count = batches.len() as f64;
    if batches.len() == 0 {
        return;
    }
    let buffers: Vec<_> = layout.tensors(TensorKind::Buffer).map(|tensor| tensor.range()).collect();
    let mut sums: Vec<Vec<f64>> = buffers.iter().map(|range| vec![0.0; range.len()]).collect();
    for batch in batches {
        for (pair, moments) in sums.chunks_exact_mut(2).zip(batch) {
            pair[0].iter_mut().zip(&moments.mean).for_each(|(sum, mean)| *sum += f64::from(*mean));
            pair[1].iter_mut().zip(moments.unbiased()).for_each(|(sum, var)| *sum += f64::from(var));
        }
    }
    for (range, sum) in buffers.into_iter().zip(sums) {
        values[range].iter_mut().zip(sum).for_each(|(value, sum)| *value = (sum / count) as f32);
    }
}
