//! SwAV's objective: codes of the first crops by Sinkhorn over all lanes, then the swapped prediction.

use std::borrow::Cow;

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
        let Scores { values, queue, crops, batch, prototypes, lanes } = scores;
        let (rows, assign) = (batch * prototypes, self.assign.min(crops));
        let slots = queue.len() / assign.max(1);
        let codes = (0..assign)
            .map(|crop| {
                let (rows, slots) = (&values[crop * rows..][..rows], &queue[crop * slots..][..slots]);
                let scores = if slots.is_empty() { Cow::Borrowed(rows) } else { Cow::Owned([rows, slots].concat()) };
                sinkhorn::codes(&scores, batch, prototypes, &self.sinkhorn, lanes, sum)
            })
            .collect::<Result<Vec<_>, Aborted>>()?;
        let loss::SwavLoss { loss, d_scores } = loss::swav(values, &codes, crops, batch, prototypes, self.temperature);
        Ok(Loss { loss, d_scores })
    }
}
