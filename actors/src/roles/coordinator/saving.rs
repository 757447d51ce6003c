//! Checkpoints whose parts come in from the owners of shards.

use super::*;

/// A checkpoint under way.
#[derive(Debug)]
pub(super) struct Saving {
    began: Instant,
    parts: BTreeMap<NodeId, Vec<PartRecord>>,
    stall_ms: f64,
    /// All its parts are there.
    pub(super) publishing: bool,
}

impl CoordinatorActor {
    pub(super) fn begin_saving(&self, state: &mut State, step: Step) {
        state.saving.insert(step, Saving { began: Instant::now(), parts: BTreeMap::new(), stall_ms: 0.0, publishing: false });
    }

    pub(super) fn parts(&self, state: &mut State, node: NodeId, step: Step, records: &str, stall_ms: f64) {
        let Some(machine) = &state.machine else { return };
        let Some(saving) = state.saving.get_mut(&step) else { return };
        match serde_json::from_str::<Vec<PartRecord>>(records) {
            Ok(records) => drop(saving.parts.insert(node, records)),
            Err(error) => tracing::warn!(%step, %node, %error, "the records of a checkpoint's parts cannot be read"),
        }
        saving.stall_ms = saving.stall_ms.max(stall_ms);
        if machine.record().members.iter().all(|member| saving.parts.contains_key(&member.node)) {
            saving.publishing = true;
            let parts = std::mem::take(&mut saving.parts).into_values().flatten().collect();
            self.office.publish(machine.record().epoch, step, parts);
        }
    }

    pub(super) fn published(&self, state: &mut State, step: Step, result: Result<u64, String>) {
        match result {
            Err(because) => self.save_failed(state, step, because),
            Ok(bytes) => {
                // Members may have changed since: what was published stands all the same.
                let (seconds, stall_ms) =
                    state.saving.remove(&step).map_or((0.0, 0.0), |saving| (saving.began.elapsed().as_secs_f64(), saving.stall_ms));
                self.broadcast(state, &Control::Published { step, bytes, seconds, stall_ms });
                self.learn(state, Fact::Saved(step));
            }
        }
    }

    /// A failed save never stops training; only the last one has nothing to wait for any more.
    pub(super) fn save_failed(&self, state: &mut State, step: Step, because: String) {
        if state.saving.remove(&step).is_none() {
            return;
        }
        self.broadcast(state, &Control::SaveFailed { step, because: because.clone() });
        self.learn(state, Fact::SaveFailed(step, because));
    }
}
