//! What one lane does in one step: a straight program that every lane runs on its own images.

use std::sync::Arc;

use burn::tensor::{FloatDType, Tensor, TensorData};
use everstep_actors::protocol::ids::{Lane as LaneId, Step, UnitId};
use everstep_actors::workload::{LaneError, LaneReport, Peers};

use super::link::{Group, Link};
use super::trunk::{Keep, Runner, Trace, contribute, seeded};
use super::{Loss, Scores, Swav};
use crate::data::LaneCrops;
use crate::model::layout::Layout;
use crate::model::ops::batch_norm::{Sums, values};
use crate::model::pass::{Norms, Pass};
use crate::planning::recompute::Segment;

/// Forward, loss and backward of one lane: reduces the gradient of every unit once.
///
/// # Errors
/// [`LaneError::Aborted`] once the epoch has ended; [`LaneError::Failed`] when the crops do not fit the config.
pub fn run(job: &Swav, step: Step, crops: LaneCrops, peers: Peers) -> Result<LaneReport, LaneError> {
    let settings = job.settings();
    let lane = peers.lane();
    settings.crops.check(settings.batch, &crops).map_err(|what| LaneError::Failed(format!("{lane} got {what}")))?;
    let link = Link::new(peers);
    let sums: Arc<dyn Sums> = Group::new(link.clone(), settings.model.sync.group(lane.0, settings.lanes));
    let mut lane = Lane { job, lane, link: &link, sums: &sums, scale: 1.0 };
    lane.scale = lane.loss_scale()?;

    let (maps, traces) = lane.forward(settings.crops.batches(settings.batch, crops, job.device()))?;
    let (dmaps, metrics) = lane.head(step, maps)?;
    lane.backward(traces, dmaps)?;
    Ok(LaneReport { metrics, wait_s: link.waited_s() })
}

type Metrics = Vec<(&'static str, f32)>;

struct Lane<'a> {
    job: &'a Swav,
    lane: LaneId,
    link: &'a Arc<Link>,
    sums: &'a Arc<dyn Sums>,
    /// What the loss is multiplied with before its gradients are computed.
    scale: f32,
}

impl Lane<'_> {
    /// The loss scale of this step: 1 unless f16 computes.
    fn loss_scale(&self) -> Result<f32, LaneError> {
        let Some((id, scale)) = self.job.scale() else { return Ok(1.0) };
        let flat = self.link.gather(id)?;
        self.link.release(id, Some(UnitId(0)));
        self.link.reduce(id, scale.contribute())?;
        Ok(scale.of(&flat))
    }

    fn compute(&self) -> FloatDType {
        self.job.settings().precision.compute()
    }

    /// A unit of the trunk.
    fn unit(&self, unit: usize) -> (UnitId, &Layout) {
        (UnitId(unit as u32), &self.job.model().trunk()[unit])
    }

    fn runner<'b>(&'b self, unit: usize, layout: &'b Layout, flat: &'b [f32]) -> Runner<'b> {
        Runner {
            layout,
            flat,
            device: self.job.device(),
            sums: self.sums,
            first: unit == 0,
            compute: self.compute(),
            unscale: self.scale.recip(),
        }
    }

    /// The trunk forward, units outermost so that each is gathered once: feature maps of each pass, and what is kept.
    fn forward(&self, mut x: Vec<Tensor<4>>) -> Result<(Vec<Tensor<4>>, Vec<Vec<Trace>>), LaneError> {
        let mut traces = Vec::new();
        for segment in self.job.plan() {
            for unit in segment.units.clone() {
                let keep = match segment.recompute {
                    false => Keep::Graph,
                    true if unit == segment.units.start => Keep::Input,
                    true => Keep::Nothing,
                };
                let (id, layout) = self.unit(unit);
                let flat = self.link.gather(id)?;
                let runner = self.runner(unit, layout, &flat);
                let (y, kept) = x.into_iter().map(|x| runner.forward(x, keep)).unzip();
                self.link.alive()?;
                self.link.release(id, Some(UnitId(id.0 + 1)));
                x = y;
                traces.push(kept);
            }
        }
        Ok((x, traces))
    }

    /// Pool, head, scores, loss and the way back: d loss / d feature maps.
    fn head(&self, step: Step, maps: Vec<Tensor<4>>) -> Result<(Vec<Tensor<4>>, Metrics), LaneError> {
        let model = self.job.model();
        let (head_id, prototypes_id) = (model.head_id(), model.prototypes_id());
        let graph = self.job.device().clone().autodiff();

        let head = self.link.gather(head_id)?;
        let maps: Vec<Tensor<4>> = maps.into_iter().map(|x| x.autodiff().require_grad()).collect();
        let settings = self.job.settings();
        let features = settings.crops.pooled(settings.batch, maps.clone(), &self.job.trunk);
        let mut pass = Pass::new(model.head(), &head, &graph, true, Norms::Measured(self.sums.clone())).computing_in(self.compute());
        let z = pass.head(features);
        let (moments, head_leaves) = pass.finish();
        self.link.alive()?;
        // Released before the next unit but one is gathered: where memory is short no more than two are held at a time.
        self.link.release(head_id, Some(prototypes_id));

        let prototypes = self.link.gather(prototypes_id)?;
        let embedding = z.clone().inner().autodiff().require_grad();
        let mut pass = Pass::new(model.prototypes(), &prototypes, &graph, true, Norms::Running);
        let scores = pass.scores(embedding.clone());
        let (_, leaves) = pass.finish();
        self.link.release(prototypes_id, self.job.queue().map(|(id, _)| id));
        let remembered = self.queue(step, &prototypes, z.clone().inner())?;

        let (mut loss, mut metrics) = self.loss(step, scores.clone().inner(), &remembered, z.clone().inner())?;

        if self.job.scale().is_some() {
            loss.d_scores.iter_mut().for_each(|d| *d *= self.scale);
            metrics.push(("loss_scale", self.scale));
        }

        let mut gradient = vec![0.0; prototypes.len()];
        let d_scores = Tensor::from_data(TensorData::new(loss.d_scores, scores.dims()), self.job.device());
        let mut gradients = seeded(scores, d_scores);
        leaves.add(&mut gradients, self.scale.recip(), &mut gradient);
        let dz = embedding.grad_remove(&mut gradients).ok_or_else(|| no_gradient("the embedding"))?;
        self.link.reduce(prototypes_id, gradient)?;

        let mut gradient = vec![0.0; head.len()];
        contribute(model.head(), &[&moments], &mut gradient);
        let mut gradients = seeded(z, dz);
        head_leaves.add(&mut gradients, self.scale.recip(), &mut gradient);
        let dmaps = maps.iter().map(|x| x.grad_remove(&mut gradients).ok_or_else(|| no_gradient("a feature map")));
        let dmaps = dmaps.collect::<Result<_, _>>()?;
        self.link.reduce(head_id, gradient)?;
        Ok((dmaps, metrics))
    }

    /// Remembers the lane's new embeddings `z`; gives the scores of those that it remembers from earlier steps, none unless the step reads them.
    fn queue(&self, step: Step, prototypes: &[f32], z: Tensor<2>) -> Result<Vec<f32>, LaneError> {
        let Some((id, queue)) = self.job.queue() else { return Ok(Vec::new()) };
        let (lane, dim) = (self.lane.0, self.job.model().dim());
        let flat = self.link.gather(id)?;
        let scores = queue.read(step).then(|| {
            let entries = queue.entries(lane, &flat).to_vec();
            let rows = entries.len() / dim;
            let entries = Tensor::from_data(TensorData::new(entries, [rows, dim]), self.job.device());
            values(Pass::new(self.job.model().prototypes(), prototypes, self.job.device(), false, Norms::Running).scores(entries))
        });
        self.link.release(id, Some(self.job.model().head_id()));
        self.link.reduce(id, queue.contribute(step, lane, &values(z)))?;
        Ok(scores.unwrap_or_default())
    }

    /// The step of the loss: the one place that knows the objective.
    fn loss(&self, step: Step, scores: Tensor<2>, queue: &[f32], z: Tensor<2>) -> Result<(Loss, Metrics), LaneError> {
        let [_, prototypes] = scores.dims();
        let settings = self.job.settings();
        let (crops, batch, lanes) = (settings.crops.crops(), settings.batch, settings.lanes);
        let scores_of = |values| Scores { values, queue, crops, batch, prototypes, lanes };
        let values = values(scores);
        let loss = self.job.objective.loss(step, scores_of(&values), &mut |rows| self.link.sinkhorn(rows))?;
        let used = self.link.sum(0..lanes, assigned(&values[..2.min(crops) * batch * prototypes], prototypes))?;
        let metrics = vec![("loss", loss.loss), ("entropy", entropy(&used)), ("embedding_std", spread(z))];
        Ok((loss, metrics))
    }

    /// The trunk backward, last unit first.
    fn backward(&self, mut traces: Vec<Vec<Trace>>, mut dy: Vec<Tensor<4>>) -> Result<(), LaneError> {
        for segment in self.job.plan().iter().rev() {
            if segment.recompute {
                self.replay(segment, &mut traces)?;
            }
            for unit in segment.units.clone().rev() {
                let (id, layout) = self.unit(unit);
                // The last unit of a recomputed segment goes forward again here, one pass at a time; those before it have their graphs by now.
                let recompute = segment.recompute && unit + 1 == segment.units.end;
                let flat = if recompute { Some(self.link.gather(id)?) } else { None };
                let runner = flat.as_ref().map(|flat| self.runner(unit, layout, flat));
                let mut gradient = vec![0.0; layout.unit.len()];
                let passes = traces.pop().ok_or_else(|| no_gradient(&layout.unit.name))?;
                let moments: Vec<_> = passes.iter().map(Trace::moments).collect();
                contribute(layout, &moments, &mut gradient);
                dy = passes.into_iter().zip(dy).filter_map(|(trace, dy)| trace.backward(runner, dy, &mut gradient)).collect();
                self.link.reduce(id, gradient)?;
                if recompute {
                    self.link.release(id, id.0.checked_sub(1).map(UnitId));
                }
            }
        }
        Ok(())
    }

    /// The forward of a segment once more, from its first unit's input up to its last unit's.
    fn replay(&self, segment: &Segment, traces: &mut [Vec<Trace>]) -> Result<(), LaneError> {
        for unit in segment.units.start..segment.units.end - 1 {
            let (id, layout) = self.unit(unit);
            let flat = self.link.gather(id)?;
            let runner = self.runner(unit, layout, &flat);
            let again = std::mem::take(&mut traces[unit])
                .into_iter()
                .map(|trace| runner.again(trace).ok_or_else(|| no_gradient(&layout.unit.name)));
            let again: Vec<(Trace, Tensor<4>)> = again.collect::<Result<_, _>>()?;
            self.link.release(id, Some(UnitId(id.0 + 1)));
            for ((trace, x), next) in again.into_iter().zip(0..) {
                traces[unit].push(trace);
                traces[unit + 1][next].enter(x);
            }
        }
        Ok(())
    }
}

fn no_gradient(what: &str) -> LaneError {
    LaneError::Failed(format!("the backward pass gave no gradient for {what}; this is a defect of the program, report it"))
}

/// How many rows have each prototype as their best.
fn assigned(scores: &[f32], prototypes: usize) -> Vec<f32> {
    let mut used = vec![0.0; prototypes];
    for row in scores.chunks_exact(prototypes) {
        let best = row.iter().enumerate().fold(0, |best, (i, v)| if *v > row[best] { i } else { best });
        used[best] += 1.0;
    }
    used
}

/// Entropy of the counts in nats: ln K when all prototypes are used alike.
fn entropy(counts: &[f32]) -> f32 {
    let total: f32 = counts.iter().sum();
    counts.iter().filter(|c| **c > 0.0).map(|c| c / total).map(|p| -p * p.ln()).sum()
}

/// Standard deviation of embeddings over the batch, root mean square over dimensions, times √dim:
/// near 1 when they fill the sphere, 0 when they have collapsed.
fn spread(z: Tensor<2>) -> f32 {
    let [n, _] = z.dims();
    let z = values(z);
    let dim = z.len() / n;
    let mut variance = 0.0f64;
    for d in 0..dim {
        let column = || z.iter().skip(d).step_by(dim).map(|v| f64::from(*v));
        let mean = column().sum::<f64>() / n as f64;
        variance += column().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
    }
    variance.sqrt() as f32
}

#[cfg(test)]
mod tests;
