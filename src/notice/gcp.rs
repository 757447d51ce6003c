//! Compute Engine: two keys of the metadata server, each waited for by long poll. Facts:
//! <https://cloud.google.com/compute/docs/instances/spot>,
//! <https://cloud.google.com/compute/docs/metadata/getting-live-migration-notice>.

use std::time::Duration;

use hyper::StatusCode;
use tokio::time::Instant;

use super::http::{Client, PROMPT, Query, Reply};
use super::{Answer, Ask, Kind, Stands};

const FLAVOR: [(&str, &str); 1] = [("metadata-flavor", "Google")];
/// How long the server may keep a question until the value changes; bounds how long a dead server goes unnoticed.
const WAIT: Duration = Duration::from_secs(10);

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// Whether this spot instance has been chosen: 30 s between the signal and the end.
    Preempted,
    /// What the host's maintenance will do to this instance: 60 s, and only for those that keep asking (an hour with GPUs).
    Maintenance,
}

impl Key {
    /// The key's name, and the last part of its path.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Preempted => "preempted",
            Self::Maintenance => "maintenance-event",
        }
    }

    fn read(self, value: &str) -> Option<Option<Stands>> {
        let stands = |kind, seconds, because: &str| Stands { kind, left: Some(Duration::from_secs(seconds)), because: because.into() };
        match (self, value) {
            (Self::Preempted, "TRUE") => Some(Some(stands(Kind::Terminate, 30, "Compute Engine preempts this instance"))),
            (Self::Maintenance, "TERMINATE_ON_HOST_MAINTENANCE") => {
                Some(Some(stands(Kind::Maintenance, 60, "Compute Engine stops this instance for maintenance of its host")))
            }
            // A migration pauses the instance for a moment and keeps its memory: no reason to leave.
            (Self::Preempted, "FALSE") | (Self::Maintenance, "NONE" | "MIGRATE_ON_HOST_MAINTENANCE") => Some(None),
            _ => None,
        }
    }
}

/// One key of the metadata server.
#[derive(Debug)]
pub(super) struct Gcp {
    client: Client,
    base: String,
    key: Key,
    /// Tag of the last value; without one the server is asked for the value as it is.
    etag: Option<String>,
    /// When the server last said that there is nothing.
    clear_at: Option<Instant>,
}

impl Gcp {
    /// Asks the server at `base` for one key.
    pub(super) fn new(client: Client, base: &str, key: Key) -> Self {
        Self { client, base: base.trim_end_matches('/').into(), key, etag: None, clear_at: None }
    }

    fn query(&self) -> Query<'static> {
        let path = format!("{}/computeMetadata/v1/instance/{}", self.base, self.key.name());
        match &self.etag {
            None => Query::get(path, &FLAVOR),
            Some(etag) => {
                let url = format!("{path}?wait_for_change=true&last_etag={etag}&timeout_sec={}", WAIT.as_secs());
                Query { within: WAIT + PROMPT, ..Query::get(url, &FLAVOR) }
            }
        }
    }

    fn hear(&mut self, reply: &Reply, asked_at: Instant) -> Answer {
        self.etag = reply.header("etag").filter(|tag| is_tag(tag)).map(str::to_owned);
        if reply.header("metadata-flavor") != Some("Google") {
            return Answer::Silent(format!("status {} from a server that is not Google's", reply.status.as_u16()));
        }
        if reply.status != StatusCode::OK {
            return Answer::Silent(format!("status {}", reply.status.as_u16()));
        }
        match reply.text().and_then(|value| self.key.read(value)) {
            None => Answer::Silent(format!("its answer is no value of {}", self.key.name())),
            Some(None) => {
                self.clear_at = Some(Instant::now());
                Answer::Clear
            }
            Some(Some(stands)) => Answer::Stands(self.aged(stands, asked_at)),
        }
    }

    /// The server does not say since when the value stands: at the worst since its last answer that there was nothing, and a
    /// question that it kept was answered at once. Where nothing is known, the time may be over.
    fn aged(&self, stands: Stands, asked_at: Instant) -> Stands {
        let age = self.clear_at.map(|clear_at| asked_at.saturating_duration_since(clear_at));
        let left = stands.left.map(|lead| age.map_or(Duration::ZERO, |age| lead.saturating_sub(age)));
        Stands { left, ..stands }
    }
}

impl Ask for Gcp {
    async fn ask(&mut self) -> Answer {
        let asked_at = Instant::now();
        match self.client.send(self.query()).await {
            Ok(reply) => self.hear(&reply, asked_at),
            Err(why) => {
                self.etag = None;
                Answer::Silent(why.to_string())
            }
        }
    }
}

/// A tag that can stand in a URL as it is.
fn is_tag(tag: &str) -> bool {
    (1..=64).contains(&tag.len()) && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}
