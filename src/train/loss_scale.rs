//! The loss scale of f16: gradients are computed of the loss times a power of two, so that small ones do not vanish, and divided by it before they are
//! summed. A step in which one overflows changes no weight on any rank and halves the scale; many good ones in a row double it (as PyTorch's `GradScaler`).
//!
//! It is shard state like the weights, a unit of two values: every rank reads the same, and every history of members makes the same.

use std::ops::Range;

use everstep_actors::workload::{NewShard, Partials, ShardView, TensorKind, TensorSpec, Unit};

/// The first scale.
const FIRST: f32 = 65_536.0;
/// Good steps after which it doubles.
const PATIENCE: f32 = 2_000.0;
/// Beyond this a doubling could make the scaled loss itself overflow.
const MOST: f32 = 16_777_216.0;

/// The unit `[scale, good steps in a row]`.
#[derive(Debug, Clone)]
pub struct LossScale {
    unit: Unit,
}

impl Default for LossScale {
    fn default() -> Self {
        let tensor = TensorSpec { name: "loss_scale".into(), shape: vec![2], offset: 0, kind: TensorKind::Buffer };
        // One row: the two values are never parted.
        Self { unit: Unit { name: "loss_scale".into(), tensors: vec![tensor], row: 2 } }
    }
}

impl LossScale {
    /// The unit that holds it.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// Initial values of a slice.
    pub fn init(&self, range: Range<usize>) -> Vec<f32> {
        [FIRST, 0.0][range].to_vec()
    }

    /// The scale in a gathered unit.
    pub fn of(&self, flat: &[f32]) -> f32 {
        flat[0]
    }

    /// What a lane gives to the unit's reduction: nothing that changes it.
    pub fn contribute(&self) -> Vec<f32> {
        vec![0.0; self.unit.len()]
    }

    /// No norms, nothing that could be non-finite.
    pub fn partials(&self) -> Partials {
        Partials::default()
    }

    /// The scale after a step in which `nonfinite` gradient values were NaN or infinite.
    pub fn update(&self, shard: ShardView<'_>, nonfinite: u64) -> NewShard {
        let (scale, good) = (shard.values[0], shard.values[1] + 1.0);
        let values = match nonfinite {
            0 if good >= PATIENCE => vec![(scale * 2.0).min(MOST), 0.0],
            0 => vec![scale, good],
            _ => vec![(scale * 0.5).max(1.0), 0.0],
        };
        NewShard { values, slots: shard.slots.to_vec() }
    }
}

#[cfg(test)]
mod tests {
    use everstep_actors::protocol::ids::{ShardId, UnitId};

    use super::*;

    #[test]
    fn it_halves_at_once_doubles_after_patience_and_stays_within_its_bounds() {
        let scale = LossScale::default();
        let after = |values: [f32; 2], nonfinite| {
            let slots = [vec![0.0; 2]];
            let shard = ShardView { id: ShardId { unit: UnitId(0), index: 0 }, start: 0, values: &values, slots: &slots };
            scale.update(shard, nonfinite).values
        };
        assert_eq!(scale.init(0..2), [65_536.0, 0.0]);
        assert_eq!(after([65_536.0, 7.0], 3), [32_768.0, 0.0]);
        assert_eq!(after([65_536.0, 7.0], 0), [65_536.0, 8.0]);
        assert_eq!(after([65_536.0, 1_999.0], 0), [131_072.0, 0.0]);
        assert_eq!(after([1.0, 0.0], 1), [1.0, 0.0]);
        assert_eq!(after([MOST, 1_999.0], 0), [MOST, 0.0]);
    }
}
