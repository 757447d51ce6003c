//! Work that would hold up a thread of the runtime, done beside it.

use tokio::task::JoinHandle;

/// Does `work` on a thread for such work. In a simulation it is a task like others: a second thread would finish now before and now
/// after what else happens at the same moment.
pub(crate) fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    match crate::clock::is_simulated() {
        true => tokio::spawn(async move { work() }),
        false => tokio::task::spawn_blocking(work),
    }
}
