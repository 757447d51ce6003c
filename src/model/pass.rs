//! One pass of one batch through one unit: tensors cut out of the flat vector, batch norms in order.

use std::sync::Arc;

use burn::tensor::activation::relu;
use burn::tensor::{Device, FloatDType, Gradients, Tensor, TensorData};
use everstep_actors::workload::{TensorKind, TensorSpec};

use super::layout::{Layout, Part};
use super::ops::batch_norm::{Moments, Norm, Sums, moments, values};
use super::ops::squeeze::Layers;
use super::ops::{self, batch_norm, batch_norm_onto};
use super::regnet::Block;

/// Where the moments of a pass's batch norms come from.
#[derive(Debug, Clone)]
pub enum Norms {
    /// The running statistics: evaluation.
    Running,
    /// Measured over the lanes: the first pass of a step.
    Measured(Arc<dyn Sums>),
    /// Those of an earlier pass: recomputation, no collective call.
    Again(Arc<dyn Sums>, Vec<Arc<Moments>>),
}

type Read = Box<dyn FnOnce(&mut Gradients) -> Option<Vec<f32>> + Send>;

/// The trained tensors of a pass, each a leaf of the autodiff graph.
pub struct Leaves(Vec<(usize, Read)>);

impl std::fmt::Debug for Leaves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Leaves({})", self.0.len())
    }
}

impl Leaves {
    /// Adds the leaves' gradients, times `scale`, into a unit's flat gradient.
    pub fn add(self, gradients: &mut Gradients, scale: f32, flat: &mut [f32]) {
        for (offset, read) in self.0 {
            if let Some(values) = read(gradients) {
                flat[offset..offset + values.len()].iter_mut().zip(&values).for_each(|(sum, v)| *sum += v * scale);
            }
        }
    }
}

/// A unit at work on one batch.
pub struct Pass<'a> {
    layout: &'a Layout,
    flat: &'a [f32],
    device: &'a Device,
    graph: bool,
    compute: FloatDType,
    parameters: Box<dyn Iterator<Item = &'a TensorSpec> + 'a>,
    buffers: Box<dyn Iterator<Item = &'a TensorSpec> + 'a>,
    norms: Norms,
    moments: Vec<Arc<Moments>>,
    leaves: Vec<(usize, Read)>,
}

impl std::fmt::Debug for Pass<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pass({})", self.layout.unit.name)
    }
}

impl<'a> Pass<'a> {
    /// Starts a pass of `layout`'s unit with the values `flat`; `graph`: parameters become leaves of an autodiff graph.
    pub fn new(layout: &'a Layout, flat: &'a [f32], device: &'a Device, graph: bool, norms: Norms) -> Self {
        ops::about_to_compute();
        Self {
            layout,
            flat,
            device,
            graph,
            compute: FloatDType::F32,
            parameters: Box::new(layout.tensors(TensorKind::Parameter)),
            buffers: Box::new(layout.tensors(TensorKind::Buffer)),
            norms,
            moments: Vec::new(),
            leaves: Vec::new(),
        }
    }

    /// The same pass with activations, and weights while they compute, in another kind of number. Batch norm keeps to f32.
    pub fn computing_in(mut self, compute: FloatDType) -> Self {
        self.compute = compute;
        self
    }

    /// The moments of the pass's batch norms and its leaves.
    pub fn finish(self) -> (Vec<Arc<Moments>>, Leaves) {
        (self.moments, Leaves(self.leaves))
    }

    /// Images or feature maps `[n, c, h, w]` through all parts of a unit of the trunk.
    pub fn trunk(&mut self, x: Tensor<4>) -> Tensor<4> {
        let mut x = x.cast(self.compute);
        for part in &self.layout.parts {
            x = match part {
                Part::Stem { stride, .. } => self.conv_norm(x, *stride, 1, true),
                Part::Block(block) => self.block(x, block),
                Part::Head { .. } | Part::Prototypes { .. } => x,
            };
        }
        x
    }

    /// Pooled features `[n, width]` through the head and onto the unit sphere: `[n, dim]`, in f32.
    pub fn head(&mut self, x: Tensor<2>) -> Tensor<2> {
        let mut x = x.cast(self.compute);
        for part in &self.layout.parts {
            if let Part::Head { dims, norm } = part {
                for layer in 1..dims.len() {
                    let (weight, bias) = (self.next(), self.next());
                    x = ops::linear(x, weight, Some(bias));
                    x = match (layer + 1 < dims.len(), *norm) {
                        (false, _) => x,
                        (true, false) => relu(x),
                        (true, true) => {
                            let [n, c] = x.dims();
                            self.norm(x.reshape([n, c, 1, 1]), true).reshape([n, c])
                        }
                    };
                }
            }
        }
        ops::normalize(x.cast(FloatDType::F32))
    }

    /// Embeddings `[n, dim]` against the prototypes: scores `[n, prototypes]`.
    pub fn scores(&mut self, z: Tensor<2>) -> Tensor<2> {
        ops::linear(z, self.next(), None)
    }

    /// 1×1, grouped 3×3, squeeze-and-excitation, 1×1, shortcut (RegNet's Y block).
    fn block(&mut self, x: Tensor<4>, block: &Block) -> Tensor<4> {
        let shortcut = if block.projects() { self.conv_norm(x.clone(), block.stride, 1, false) } else { x.clone() };
        let y = self.conv_norm(x, 1, 1, true);
        let y = self.conv_norm(y, block.stride, block.groups, true);
        let y = self.squeeze(y, block);
        let y = ops::conv(y, self.next(), 1, 1);
        let (gamma, beta, norm) = self.norm_of(&y, false);
        batch_norm_onto(shortcut, y, gamma, beta, norm)
    }

    fn squeeze(&mut self, y: Tensor<4>, block: &Block) -> Tensor<4> {
        let first = self.next::<4>().reshape([block.squeeze, block.width]);
        let first_bias = self.next();
        let second = self.next::<4>().reshape([block.width, block.squeeze]);
        let second_bias = self.next();
        ops::squeeze(y, Layers { first, first_bias, second, second_bias })
    }

    fn conv_norm(&mut self, x: Tensor<4>, stride: usize, groups: usize, relu: bool) -> Tensor<4> {
        let weight = self.next();
        let x = ops::conv(x, weight, stride, groups);
        self.norm(x, relu)
    }

    fn norm(&mut self, x: Tensor<4>, relu: bool) -> Tensor<4> {
        let (gamma, beta, norm) = self.norm_of(&x, relu);
        batch_norm(x, gamma, beta, norm)
    }

    /// γ, β and how x is normalised.
    fn norm_of(&mut self, x: &Tensor<4>, relu: bool) -> (Tensor<1>, Tensor<1>, Norm) {
        let (gamma, beta) = (self.master(), self.master());
        let (mean, var) = (self.buffer(), self.buffer());
        let (moments, sums) = match &self.norms {
            Norms::Running => (Arc::new(Moments { mean: mean.to_vec(), var: var.to_vec(), count: 1 }), None),
            Norms::Measured(sums) => (Arc::new(moments(x, mean, sums.as_ref())), Some(sums.clone())),
            Norms::Again(sums, known) => (known[self.moments.len()].clone(), Some(sums.clone())),
        };
        self.moments.push(moments.clone());
        (gamma, beta, Norm { moments, relu, sums })
    }

    fn buffer(&mut self) -> &'a [f32] {
        let spec = self.buffers.next().expect("a layout lists what its parts take");
        &self.flat[spec.range()]
    }

    /// The next trained tensor as it computes.
    fn next<const D: usize>(&mut self) -> Tensor<D> {
        self.master().cast(self.compute)
    }

    /// The next trained tensor as it is kept.
    fn master<const D: usize>(&mut self) -> Tensor<D> {
        let spec = self.parameters.next().expect("a layout lists what its parts take");
        let data = TensorData::new(self.flat[spec.range()].to_vec(), spec.shape.as_slice());
        let tensor = Tensor::<D>::from_data(data, self.device);
        if !self.graph {
            return tensor;
        }
        let leaf = tensor.require_grad();
        let kept = leaf.clone();
        self.leaves.push((spec.offset, Box::new(move |gradients| kept.grad_remove(gradients).map(values))));
        leaf
    }
}
