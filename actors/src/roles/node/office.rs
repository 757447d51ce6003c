//! The leader's office: what the coordinator needs of its node's store and links.

use super::*;

pub(super) struct LeaderOffice {
    pub(super) shared: Arc<Shared>,
    pub(super) draft: Draft,
    pub(super) keep: usize,
}

impl Office for LeaderOffice {
    fn send(&self, to: NodeId, message: Control) {
        self.shared.send(to, message);
    }

    fn create(&self, record: EpochRecord) {
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let creation = records::create(&shared.store, &record).await;
            shared.tell(&shared.coordinator, "coordinator", CoordinatorMsg::created(creation));
        });
    }

    fn look_for_checkpoint(&self) {
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let message = match checkpoint::newest_intact(&shared.store, OnBad::SetAside).await {
                Ok(found) => {
                    for passed in found.passed_over {
                        let because = format!("set aside: {}: {}", passed.place, passed.damage);
                        shared.record(Event::CheckpointFailed { step: passed.step, because });
                    }
                    CoordinatorMsg::checkpoint(found.manifest.map(|manifest| manifest.step))
                }
                Err(error) => CoordinatorMsg::Stuck(error.to_string()),
            };
            shared.tell(&shared.coordinator, "coordinator", message);
        });
    }

    fn look_for_newer(&self) {
        let shared = self.shared.clone();
        tokio::spawn(async move {
            let newest = records::newest(&shared.store).await.ok().flatten();
            shared.tell(&shared.coordinator, "coordinator", CoordinatorMsg::newest(newest.map(|record| (record.epoch, record.nonce))));
        });
    }

    fn lease(&self, epoch: Option<Epoch>) {
        self.shared.lease.send_replace(epoch);
    }

    fn deposed(&self) {
        self.shared.lease.send_replace(None);
        self.shared.leading.send_replace(None);
        self.shared.tell(&self.shared.node, "node", NodeMsg::Fact(Fact::Deposed));
    }

    fn over(&self, outcome: Outcome, because: String) {
        self.shared.tell(&self.shared.node, "node", NodeMsg::Over(outcome, because));
    }

    fn leads(&self, epoch: Epoch) {
        self.shared.leading.send_replace(Some(epoch));
    }

    fn save_ledger(&self) {
        let shared = self.shared.clone();
        tokio::spawn(async move { save_ledger(&shared).await });
    }

    fn share_ledger(&self) {
        let lines: Vec<_> =
            self.shared.tail.waiting().into_iter().map(|line| (line.step, line.epoch, line.samples, line.samples_hash)).collect();
        let Some(epoch) = self.shared.epoch().filter(|_| !lines.is_empty()) else { return };
        for member in epoch.record.everyone().filter(|member| member.node != self.shared.me) {
            self.shared.send(member.node, Control::Lines { lines: lines.clone() });
        }
    }

    fn wake(&self, after: Duration) {
        let shared = self.shared.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            shared.tell(&shared.coordinator, "coordinator", CoordinatorMsg::Tick);
        });
    }

    fn publish(&self, epoch: Epoch, step: Step, parts: Vec<PartRecord>) {
        let (shared, keep) = (self.shared.clone(), self.keep);
        let draft = Draft { epoch, step, ..self.draft.clone() };
        tokio::spawn(async move {
            // Whoever goes on from the checkpoint finds every step before it in the ledger.
            save_ledger(&shared).await;
            let behind = shared.tail.waiting().first().is_some_and(|line| line.step < step);
            let result = if behind {
                Err("the ledger of the steps before it could not be written".into())
            } else {
                publish(&shared, draft, parts, keep).await
            };
            shared.tell(&shared.coordinator, "coordinator", CoordinatorMsg::Published { step, result });
        });
    }

    fn record(&self, event: Event) {
        self.shared.record(event);
    }
}

/// Writes the lines of the ledger that are not durable yet, and tells all members how far it is.
pub(super) async fn save_ledger(shared: &Arc<Shared>) {
    match shared.tail.save(&shared.store, &nonce(shared), None).await {
        Ok(Some(durable)) => {
            if let Some(epoch) = shared.epoch().filter(|epoch| epoch.record.leader == shared.me) {
                for member in epoch.record.everyone().filter(|member| member.node != shared.me) {
                    shared.send(member.node, Control::Logged { from: durable.start, step: durable.end });
                }
            }
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "the ledger could not be written; its lines are kept by every member"),
    }
}

/// Writes the lines of steps before `end` that the leader does not have.
pub(super) async fn save_older(shared: Arc<Shared>, end: Step) {
    if let Err(error) = shared.tail.save(&shared.store, &nonce(&shared), Some(end)).await {
        tracing::warn!(%error, "older lines of the ledger could not be written; they are kept");
    }
}

pub(super) async fn publish(shared: &Shared, draft: Draft, parts: Vec<PartRecord>, keep: usize) -> Result<u64, String> {
    let manifest = checkpoint::assemble(draft, parts).map_err(|error| error.to_string())?;
    checkpoint::publish(&shared.store, &manifest).await.map_err(|error| error.to_string())?;
    save_events(shared, manifest.epoch, manifest.step).await;
    if let Err(error) = checkpoint::prune(&shared.store, keep).await {
        tracing::warn!(%error, "old checkpoints could not be deleted");
    }
    Ok(manifest.bytes())
}

/// Who begins to lead tells what was before as its log has it.
pub(super) async fn tell_as_written(shared: Arc<Shared>, since_ms: u64) {
    match super::super::log::newest(&shared.store).await {
        Ok(written) => shared.tell(&shared.desk, "desk", DeskMsg::Leads { since_ms, written }),
        Err(error) => tracing::debug!(%error, "the run's log cannot be read: what was before is told as this node saw it"),
    }
}

/// The run's log: what happened since the last save, one object of JSON lines.
pub(super) async fn save_events(shared: &Shared, epoch: Epoch, step: Step) {
    let key = format!("events/{:010}-{:010}-{}.jsonl", epoch.0, step.0, nonce(shared));
    if let Err(error) = shared.log.save(&shared.store, &key).await {
        tracing::warn!(%error, "the run's log could not be saved: it is kept for the next time");
    }
}

/// Writes what waits of the run's log, whoever leads by now.
pub(super) async fn save_all(shared: &Shared) {
    let leading = *shared.leading.borrow();
    let epoch = leading.or_else(|| shared.epoch().map(|epoch| epoch.record.epoch)).unwrap_or_default();
    save_events(shared, epoch, shared.tail.next_step()).await;
}

/// Unique to this process and moment: told apart by who reads a record back, never by chance.
pub(super) fn nonce(shared: &Shared) -> String {
    let count = shared.nonces.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{}-{}-{count}-{}", shared.me, shared.pid, crate::clock::wall_ms())
}
