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

    fn create_epoch(&self, record: EpochRecord) -> BoxFuture<'static, Result<(), String>> {
        let store = self.shared.store.clone();
        async move {
            match finding::create_record(&store, &record).await {
                Ok(true) => Ok(()),
                Ok(false) => Err(format!("{} was begun by another node: this one no longer leads; start it again to join", record.epoch)),
                Err(error) => Err(error.to_string()),
            }
        }
        .boxed()
    }

    fn newest_checkpoint(&self) -> BoxFuture<'static, Result<Option<Step>, String>> {
        let shared = self.shared.clone();
        async move {
            let found = checkpoint::newest_intact(&shared.store, OnBad::SetAside).await.map_err(|error| error.to_string())?;
            for passed in found.passed_over {
                shared.record(Event::CheckpointFailed {
                    step: passed.step,
                    because: format!("set aside: {}: {}", passed.place, passed.damage),
                });
            }
            Ok(found.manifest.map(|manifest| manifest.step))
        }
        .boxed()
    }

    fn publish(&self, epoch: Epoch, step: Step, parts: Vec<PartRecord>) {
        let (shared, keep) = (self.shared.clone(), self.keep);
        let draft = Draft { epoch, step, ..self.draft.clone() };
        tokio::spawn(async move {
            let result = publish(&shared, draft, parts, keep).await;
            shared.tell(&shared.coordinator, "coordinator", CoordinatorMsg::Published { step, result });
        });
    }

    fn record(&self, event: Event) {
        self.shared.record(event);
    }

    fn nonce(&self) -> String {
        nonce(self.shared.me)
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

/// The run's log: what happened since the last save, one object of JSON lines.
pub(super) async fn save_events(shared: &Shared, epoch: Epoch, step: Step) {
    let events = std::mem::take(&mut *shared.unsaved.lock().unwrap_or_else(PoisonError::into_inner));
    let lines: Vec<String> = events.iter().filter_map(|event| serde_json::to_string(event).ok()).collect();
    let key = format!("events/{:010}-{:010}-{}.jsonl", epoch.0, step.0, nonce(shared.me));
    if !lines.is_empty()
        && let Err(error) = shared.store.put(&key, bytes::Bytes::from(lines.join("\n") + "\n")).await
    {
        tracing::warn!(%error, "the run's log could not be saved");
    }
}

/// Unique to this process and moment: told apart by who reads a record back, never by chance.
pub(super) fn nonce(me: NodeId) -> String {
    static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    format!("{me}-{}-{count}-{}", std::process::id(), crate::clock::wall_ms())
}
