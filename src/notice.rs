//! Notices that this machine is about to be taken away: who says so, until when, and whether it still holds.
//!
//! [`watch`] asks the sources of `[preemption]` at a stated pace and tells what has changed. A source that is not there, is slow
//! or talks nonsense is asked again and never disturbs anything.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::{NoticeSource, Preemption};
use http::{Client, Tcp};

mod aws;
mod azure;
mod file;
mod gcp;
mod http;
mod moment;
mod rounds;
mod standing;
mod url;

/// Notices that wait to be taken; sources are not asked further while none fits.
const WAITING_MAX: usize = 8;
/// Characters of a remote text that a notice repeats.
const TEXT_MAX: usize = 200;

/// What has changed about the end of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// This machine is about to be taken away. Said again only when the deadline has come closer.
    Preempt {
        /// Who says so, in the words of `preemption.sources`.
        source: String,
        /// What is going to happen.
        kind: Kind,
        /// Time left from now, zero where it is over; `None` where the source names no time.
        deadline: Option<Duration>,
        /// The reason, for people.
        because: String,
    },
    /// No source says any more that this machine is about to be taken away.
    Cancelled {
        /// The last one that took it back.
        source: String,
        /// The reason, for people.
        because: String,
    },
}

/// What is going to happen to this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It ends for good.
    Terminate,
    /// It is switched off and may be started again.
    Stop,
    /// Its memory is written to disk and it is switched off; this begins at once.
    Hibernate,
    /// It is restarted or moved for maintenance, which ends its processes.
    Maintenance,
    /// It is at higher risk than others: advice to move, not a decision.
    Rebalance,
    /// Whoever runs it wants this node to leave.
    Request,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminate => "terminate",
            Self::Stop => "stop",
            Self::Hibernate => "hibernate",
            Self::Maintenance => "maintenance",
            Self::Rebalance => "rebalance",
            Self::Request => "request",
        })
    }
}

/// What a source answers when it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Answer {
    /// A notice stands.
    Stands(Stands),
    /// No notice stands.
    Clear,
    /// It says nothing that can be used, for this reason. What it said before still holds.
    Silent(String),
}

/// A notice as its source tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stands {
    kind: Kind,
    /// Time left from now.
    left: Option<Duration>,
    because: String,
}

/// Someone who can be asked.
trait Ask: Send + 'static {
    /// One question and its answer, within a bounded time. The source's own state must survive that the question is given up.
    fn ask(&mut self) -> impl Future<Output = Answer> + Send;
}

/// Asks every source of the section at its pace until the receiver is dropped. Without sources the channel is closed at once.
/// To be called in a Tokio runtime.
pub fn watch(section: &Preemption) -> mpsc::Receiver<Notice> {
    watch_with(section, Client::new(Arc::new(Tcp)))
}

fn watch_with(section: &Preemption, client: Client) -> mpsc::Receiver<Notice> {
    let (teller, notices) = mpsc::channel(WAITING_MAX);
    let section = section.clone();
    tokio::spawn(async move { rounds::run(rounds::start(&section, &client), teller).await });
    notices
}

/// Tells Azure that this machine is ready for what it has announced, so that it need not wait for the deadline: to be called
/// once the node has left its run. Nothing is said where `preemption.azure_approve` is off, or of an event that concerns other
/// machines too. The number of events that were approved.
///
/// # Errors
/// Azure does not answer, or refuses; the events then begin at their deadlines.
pub async fn approve(section: &Preemption) -> Result<u32, NotApproved> {
    approve_with(section, Client::new(Arc::new(Tcp))).await
}

async fn approve_with(section: &Preemption, client: Client) -> Result<u32, NotApproved> {
    if !section.azure_approve || !section.sources.contains(&NoticeSource::Azure) {
        return Ok(0);
    }
    let mut azure = azure::Azure::new(client, &section.base_url.azure, section.azure_resource.clone());
    azure.approve().await.map_err(|why| NotApproved { why })
}

/// Azure was not told that this machine is ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Azure's scheduled events cannot be approved ({why}): they begin at their deadlines")]
pub struct NotApproved {
    /// What stood in the way.
    pub why: String,
}

/// A text from outside, fit for one line of a log.
fn plain(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().filter(|char| !char.is_control()).take(TEXT_MAX).collect()
}

#[cfg(test)]
mod tests;
