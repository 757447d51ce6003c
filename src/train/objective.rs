//! SwAV's objective: codes of the first crops by Sinkhorn over all lanes, then the swapped prediction.

use everstep_actors::protocol::ids::Step;
use everstep_actors::workload::Aborted;

use super::{Loss, Objective, Scores, SinkhornSum};
use crate::swav::{loss, sinkhorn};

/// Codes and cross entropy (Caron et al. 2020, section 3).
#[derive(Debug, Clone)]
pub struct SwappedPrediction {
    /// Temperature of the softmax over prototypes.
    pub temperature: f32,
    /// How codes are computed.
    pub sinkhorn: sinkhorn::Settings,
    /// The first so many crops are assigned codes.
    pub assign: usize,
}

impl Objective for SwappedPrediction {
    fn loss(&self, _: Step, scores: Scores<'_>, sum: &mut SinkhornSum<'_>) -> Result<Loss, Aborted> {
        let Scores { values, crops, batch, prototypes, lanes } = scores;
        let rows = batch * prototypes;
        let codes = (0..self.assign.min(crops))
            .map(|crop| sinkhorn::codes(&values[crop * rows..(crop + 1) * rows], batch, prototypes, &self.sinkhorn, lanes, sum))
            .collect::<Result<Vec<_>, Aborted>>()?;
        let loss::SwavLoss { loss, d_scores } = loss::swav(values, &codes, crops, batch, prototypes, self.temperature);
        Ok(Loss { loss, d_scores })
    }
}
