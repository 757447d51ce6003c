//! One crop group through one unit of the trunk, forward and backward, with or without recomputation.

use std::sync::Arc;

use burn::tensor::{Device, FloatDType, Gradients, Tensor};
use everstep_actors::workload::TensorKind;

use crate::model::MOMENTUM;
use crate::model::layout::Layout;
use crate::model::ops::batch_norm::{Moments, Sums};
use crate::model::ops::seed;
use crate::model::pass::{Leaves, Norms, Pass};

/// What a forward pass leaves behind for the backward pass.
#[derive(Debug)]
pub(super) struct Trace {
    kept: Kept,
    moments: Vec<Arc<Moments>>,
}

#[derive(Debug)]
enum Kept {
    Nothing,
    Input(Box<Tensor<4>>),
    Graph(Box<Graph>),
}

/// What a forward pass is to leave behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Batch-norm moments alone: the segment that the unit belongs to brings its input back.
    Nothing,
    /// The input too.
    Input,
    /// The whole graph.
    Graph,
}

#[derive(Debug)]
struct Graph {
    x: Tensor<4>,
    y: Tensor<4>,
    leaves: Leaves,
    unscale: f32,
}

/// A unit of the trunk with its values, as one lane runs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runner<'a> {
    pub(super) layout: &'a Layout,
    pub(super) flat: &'a [f32],
    pub(super) device: &'a Device,
    pub(super) sums: &'a Arc<dyn Sums>,
    /// Images need no gradient.
    pub(super) first: bool,
    /// What it computes in.
    pub(super) compute: FloatDType,
    /// What gradients are multiplied with to undo the loss scale.
    pub(super) unscale: f32,
}

impl Runner<'_> {
    /// The output, without a graph, and what the backward pass needs.
    pub(super) fn forward(&self, x: Tensor<4>, keep: Keep) -> (Tensor<4>, Trace) {
        let norms = Norms::Measured(self.sums.clone());
        if keep == Keep::Graph {
            let (graph, moments) = self.graph(x, norms);
            return (graph.y.clone().inner(), Trace { kept: Kept::Graph(Box::new(graph)), moments });
        }
        let mut pass = Pass::new(self.layout, self.flat, self.device, false, norms).computing_in(self.compute);
        let kept = if keep == Keep::Input { Kept::Input(Box::new(x.clone())) } else { Kept::Nothing };
        let y = pass.trunk(x);
        let (moments, _) = pass.finish();
        (y, Trace { kept, moments })
    }

    /// The graph of a trace that holds its input, made by a second forward with the moments of the first, and the output.
    pub(super) fn again(&self, trace: Trace) -> Option<(Trace, Tensor<4>)> {
        let Kept::Input(x) = trace.kept else { return None };
        let (graph, _) = self.graph(*x, Norms::Again(self.sums.clone(), trace.moments.clone()));
        let y = graph.y.clone().inner();
        Some((Trace { kept: Kept::Graph(Box::new(graph)), moments: trace.moments }, y))
    }

    fn graph(&self, x: Tensor<4>, norms: Norms) -> (Graph, Vec<Arc<Moments>>) {
        let x = x.autodiff();
        let x = if self.first { x } else { x.require_grad() };
        let device = self.device.clone().autodiff();
        let mut pass = Pass::new(self.layout, self.flat, &device, true, norms).computing_in(self.compute);
        let y = pass.trunk(x.clone());
        let (moments, leaves) = pass.finish();
        (Graph { x, y, leaves, unscale: self.unscale }, moments)
    }
}

impl Trace {
    /// The pass's batch-norm moments.
    pub(super) fn moments(&self) -> &[Arc<Moments>] {
        &self.moments
    }

    /// Gives a trace its input back.
    pub(super) fn enter(&mut self, x: Tensor<4>) {
        self.kept = Kept::Input(Box::new(x));
    }

    /// Adds the gradients of the unit's parameters to `gradient` and gives d loss / dx. With a kept graph no `runner` is needed.
    pub(super) fn backward(self, runner: Option<Runner<'_>>, dy: Tensor<4>, gradient: &mut [f32]) -> Option<Tensor<4>> {
        let graph = match (self.kept, runner) {
            (Kept::Graph(graph), _) => *graph,
            (Kept::Input(x), Some(runner)) => runner.graph(*x, Norms::Again(runner.sums.clone(), self.moments)).0,
            (Kept::Input(_), None) | (Kept::Nothing, _) => return None,
        };
        let mut gradients = seeded(graph.y, dy);
        graph.leaves.add(&mut gradients, graph.unscale, gradient);
        graph.x.grad_remove(&mut gradients)
    }
}

/// Backward from y with d loss / dy given.
pub(super) fn seeded<const D: usize>(y: Tensor<D>, dy: Tensor<D>) -> Gradients {
    seed(y, dy).backward()
}

/// Writes what a step adds to running statistics into the buffer slots of a unit's gradient.
///
/// `passes`: the moments of each of the step's n passes in order. PyTorch updates r ← (1−m)·r + m·stat after each of
/// them, which makes r ← (1−m)ⁿ·r + Σᵢ m·(1−m)ⁿ⁻¹⁻ⁱ·statᵢ: the sum is what is written.
pub(super) fn contribute(layout: &Layout, passes: &[&[Arc<Moments>]], gradient: &mut [f32]) {
    let mut buffers = layout.tensors(TensorKind::Buffer);
    let mut norm = 0;
    while let (Some(mean), Some(var)) = (buffers.next(), buffers.next()) {
        for (i, pass) in passes.iter().enumerate() {
            let weight = MOMENTUM * (1.0 - MOMENTUM).powi((passes.len() - 1 - i) as i32);
            let moments = &pass[norm];
            gradient[mean.range()].iter_mut().zip(&moments.mean).for_each(|(g, m)| *g += weight * m);
            gradient[var.range()].iter_mut().zip(moments.unbiased()).for_each(|(g, v)| *g += weight * v);
        }
        norm += 1;
    }
}
