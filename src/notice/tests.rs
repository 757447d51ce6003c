//! Notices by pure tables, and against fake clouds that speak their protocols strictly, in virtual time.

mod aws;
mod azure;
mod clouds;
mod fake;
mod files;
mod gcp;
mod standing;
mod trouble;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use fake::{Cloud, Net};

/// The section with these sources and a question every two seconds.
fn section(sources: &[&str]) -> Preemption {
    let sources = sources.iter().map(|source| NoticeSource::try_from((*source).to_owned()).unwrap()).collect();
    Preemption { sources, poll: 2.0, ..Preemption::default() }
}

/// Notices of these sources, all of them served by one fake cloud.
fn listen<C: Cloud>(sources: &[&str], net: &Arc<Net<C>>) -> mpsc::Receiver<Notice> {
    watch_with(&section(sources), client(net))
}

fn client<C: Cloud>(net: &Arc<Net<C>>) -> Client {
    Client::new(net.clone())
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The next notice, if one comes within this time and half a second, so that an answer at its very end counts.
async fn within(notices: &mut mpsc::Receiver<Notice>, time: u64) -> Option<Notice> {
    timeout(seconds(time) + Duration::from_millis(500), notices.recv())
        .await
        .ok()
        .map(|notice| notice.expect("the sources are asked while the receiver lives"))
}

/// Kind and deadline of a notice that must come within this time.
async fn preempted(notices: &mut mpsc::Receiver<Notice>, time: u64) -> (Kind, Option<Duration>) {
    match within(notices, time).await {
        Some(Notice::Preempt { kind, deadline, .. }) => (kind, deadline),
        other => panic!("no notice came within {time} s but {other:?}"),
    }
}

/// The source of a cancellation that must come within this time.
async fn cancelled(notices: &mut mpsc::Receiver<Notice>, time: u64) -> String {
    match within(notices, time).await {
        Some(Notice::Cancelled { source, .. }) => source,
        other => panic!("nothing was cancelled within {time} s but {other:?}"),
    }
}
