//! Azure: scheduled events of the instance metadata service. Facts:
//! <https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events>.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::http::{Client, PROMPT, Query, Reply};
use super::moment::{rfc2822, until};
use super::{Answer, Ask, Kind, Stands, plain};

const METADATA: [(&str, &str); 1] = [("metadata", "true")];
const EVENTS: &str = "/metadata/scheduledevents?api-version=2020-07-01";
const NAME: &str = "/metadata/instance/compute/name?api-version=2021-02-01&format=text";
/// The first question switches the service on, which may take two minutes.
const FIRST: Duration = Duration::from_secs(130);

/// One machine's scheduled events.
#[derive(Debug)]
pub(super) struct Azure {
    client: Client,
    base: String,
    /// This machine's name in the resources of an event, once it is known.
    name: Option<String>,
    /// Whether the service has ever answered.
    is_on: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Document {
    /// Says that this is a document of events; what has changed is seen in the events.
    #[serde(rename = "DocumentIncarnation")]
    _incarnation: i64,
    events: Vec<Event>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    event_id: String,
    event_type: String,
    event_status: String,
    #[serde(default)]
    resources: Vec<String>,
    /// Blank once it has started.
    #[serde(default)]
    not_before: String,
    #[serde(default)]
    description: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Approval<'a> {
    start_requests: Vec<StartRequest<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StartRequest<'a> {
    event_id: &'a str,
}

impl Event {
    /// What it does to this machine's processes; `None` where they go on (a freeze lasts seconds and keeps the memory).
    fn kind(&self) -> Option<Kind> {
        match self.event_type.as_str() {
            "Preempt" | "Terminate" => Some(Kind::Terminate),
            "Reboot" | "Redeploy" => Some(Kind::Maintenance),
            _ => None,
        }
    }

    fn has_started(&self) -> bool {
        self.event_status == "Started"
    }

    fn left(&self, reply: &Reply) -> Option<Duration> {
        if self.has_started() { Some(Duration::ZERO) } else { rfc2822(&self.not_before).map(|moment| until(moment, reply)) }
    }

    fn told(&self, kind: Kind, reply: &Reply) -> Stands {
        let because = plain(&format!("Azure announces {} ({}): {}", self.event_type, self.event_id, self.description));
        Stands { kind, left: self.left(reply), because }
    }
}

impl Azure {
    /// Asks the service at `base` for events of the machine `name`, or for its name first.
    pub(super) fn new(client: Client, base: &str, name: Option<String>) -> Self {
        Self { client, base: base.trim_end_matches('/').into(), name, is_on: false }
    }

    /// Tells the service to start what concerns this machine alone and has not started yet; the number of such events.
    pub(super) async fn approve(&mut self) -> Result<u32, String> {
        // Whoever drains has been told by this service: it is on, and the node waits to end.
        self.is_on = true;
        let (_, events) = self.mine().await?;
        let alone = |event: &&Event| event.kind().is_some() && !event.has_started() && event.resources.len() == 1;
        let start_requests: Vec<_> = events.iter().filter(alone).map(|event| StartRequest { event_id: &event.event_id }).collect();
        let count = start_requests.len() as u32;
        if count > 0 {
            let body = serde_json::to_string(&Approval { start_requests }).map_err(|why| why.to_string())?;
            self.send(Query { method: Method::POST, body, ..Query::get(self.url(EVENTS), &METADATA) }).await?;
        }
        Ok(count)
    }

    /// The events that name this machine, with the reply that holds them. The whole scale set or availability set sees each.
    async fn mine(&mut self) -> Result<(Reply, Vec<Event>), String> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => self.ask_name().await?,
        };
        let within = if self.is_on { PROMPT } else { FIRST };
        let reply = self.send(Query { within, ..Query::get(self.url(EVENTS), &METADATA) }).await?;
        let document: Document = serde_json::from_slice(&reply.body).map_err(|why| format!("its answer is no list of events: {why}"))?;
        let names_me = |event: &Event| event.resources.iter().any(|resource| resource.eq_ignore_ascii_case(&name));
        let mine = document.events.into_iter().filter(names_me).collect();
        // Whoever told the name is Azure indeed.
        (self.is_on, self.name) = (true, Some(name));
        Ok((reply, mine))
    }

    async fn ask_name(&self) -> Result<String, String> {
        let reply = self.send(Query::get(self.url(NAME), &METADATA)).await?;
        let name = reply.text().filter(|name| is_name(name));
        name.map(str::to_owned).ok_or_else(|| "the service does not know this machine's name: give preemption.azure_resource".into())
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn send(&self, query: Query<'_>) -> Result<Reply, String> {
        let reply = self.client.send(query).await.map_err(|why| why.to_string())?;
        if reply.status == StatusCode::OK { Ok(reply) } else { Err(format!("status {}", reply.status.as_u16())) }
    }
}

/// Whether a machine can be called so: what answers in Azure's place may answer anything.
fn is_name(name: &str) -> bool {
    (1..=80).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

impl Ask for Azure {
    async fn ask(&mut self) -> Answer {
        let (reply, events) = match self.mine().await {
            Ok(found) => found,
            Err(why) => return Answer::Silent(why),
        };
        let stands = events.iter().filter_map(|event| Some(event.told(event.kind()?, &reply)));
        let first = stands.min_by_key(|stands| stands.left.unwrap_or(Duration::MAX));
        first.map_or(Answer::Clear, Answer::Stands)
    }
}
