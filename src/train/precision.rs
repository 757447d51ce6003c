//! Mixed precision: in what a lane computes, and in what units travel between ranks (Micikevicius et al. 2018). Master weights, momentum, batch norm,
//! prototypes, loss and codes are always f32.

use burn::tensor::FloatDType;
use everstep_actors::workload::{Dtype, TensorKind, Unit, Wire};

use crate::planning::placement::Width;

fn bytes(dtype: Dtype) -> u64 {
    if dtype == Dtype::F32 { 4 } else { 2 }
}

/// Kinds of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Precision {
    /// Of activations, and of weights while they compute.
    pub compute: Dtype,
    /// Of trunk and head on their way to the lanes.
    pub gather: Dtype,
    /// Of gradients of trunk and head on their way to the shards.
    pub reduce: Dtype,
}

impl Precision {
    /// How a unit of the trunk or the head travels: its parameters, which come first, in these kinds; what batch norm remembers in f32.
    pub(super) fn wire(&self, unit: &Unit) -> Wire {
        let first = unit.tensors.iter().take_while(|tensor| tensor.kind == TensorKind::Parameter);
        Wire { gather: self.gather, reduce: self.reduce, below: first.map(|tensor| tensor.range().end).max().unwrap_or_default() }
    }

    /// What a lane computes in.
    pub(super) fn compute(&self) -> FloatDType {
        match self.compute {
            Dtype::F32 => FloatDType::F32,
            Dtype::BF16 => FloatDType::BF16,
            Dtype::F16 => FloatDType::F16,
        }
    }

    /// Bytes of an activation.
    pub fn activation_bytes(&self) -> u64 {
        bytes(self.compute)
    }

    /// Bytes of a value of trunk and head on the wire, as a weight and as a gradient.
    pub fn width(&self) -> Width {
        Width { gather: bytes(self.gather), reduce: bytes(self.reduce) }
    }

    /// Whether gradients are small enough to vanish, so that the loss must be scaled.
    pub(super) fn scales_loss(&self) -> bool {
        self.compute == Dtype::F16
    }
}
