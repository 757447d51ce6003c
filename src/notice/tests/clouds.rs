//! The clouds' metadata services as their documents describe them, strict about what they refuse.

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::fake::{Asked, Cloud, Said};

/// EC2's instance metadata service where session tokens are required.
#[derive(Debug, Default)]
pub(super) struct Ec2 {
    state: Mutex<Ec2State>,
}

#[derive(Debug, Default)]
pub(super) struct Ec2State {
    /// Body of `spot/instance-action`.
    pub(super) action: Option<String>,
    /// Body of `events/recommendations/rebalance`.
    pub(super) rebalance: Option<String>,
    tokens: Vec<(String, Instant)>,
}

impl Ec2 {
    pub(super) fn set(&self, change: impl FnOnce(&mut Ec2State)) {
        change(&mut self.state.lock().unwrap());
    }

    /// Puts an action at a moment.
    pub(super) fn act(&self, action: &str, time: chrono::DateTime<chrono::Utc>) {
        let time = time.format("%Y-%m-%dT%H:%M:%SZ").to_string();
        self.set(|state| state.action = Some(json!({ "action": action, "time": time }).to_string()));
    }

    /// Forgets every token, as the service does when it is restarted.
    pub(super) fn forget_tokens(&self) {
        self.set(|state| state.tokens.clear());
    }

    fn token(&self, asked: &Asked) -> Said {
        if asked.header("x-forwarded-for").is_some() {
            return Said::new(403, "");
        }
        let life = asked.header("x-aws-ec2-metadata-token-ttl-seconds").and_then(|life| life.parse::<u64>().ok());
        let Some(life) = life.filter(|life| (1..=21_600).contains(life)) else { return Said::new(400, "") };
        let mut state = self.state.lock().unwrap();
        let token = format!("AQAE{}==", state.tokens.len());
        state.tokens.push((token.clone(), Instant::now() + Duration::from_secs(life)));
        Said { headers: vec![("x-aws-ec2-metadata-token-ttl-seconds", life.to_string())], ..Said::new(200, token) }
    }

    fn value(&self, asked: &Asked) -> Said {
        let state = self.state.lock().unwrap();
        let shown = asked.header("x-aws-ec2-metadata-token");
        if !state.tokens.iter().any(|(token, end)| Some(token.as_str()) == shown && Instant::now() < *end) {
            return Said::new(401, "");
        }
        let value = match asked.path.as_str() {
            "/latest/meta-data/spot/instance-action" => state.action.clone(),
            "/latest/meta-data/events/recommendations/rebalance" => state.rebalance.clone(),
            _ => None,
        };
        value.map_or_else(|| Said::new(404, "<html>404 - Not Found</html>"), |value| Said::new(200, value))
    }
}

impl Cloud for Ec2 {
    async fn answer(&self, asked: &Asked) -> Said {
        match (asked.method.as_str(), asked.path.as_str()) {
            ("PUT", "/latest/api/token") => self.token(asked),
            (_, "/latest/api/token") => Said::new(405, ""),
            ("GET", _) => self.value(asked),
            _ => Said::new(405, ""),
        }
    }
}

/// Compute Engine's metadata server.
#[derive(Debug)]
pub(super) struct Gce {
    values: watch::Sender<[&'static str; 2]>,
    /// Whether it tags its values, without which nobody can wait for a change.
    tags: bool,
}

impl Gce {
    pub(super) fn new(preempted: &'static str, maintenance: &'static str) -> Self {
        Self { values: watch::Sender::new([preempted, maintenance]), tags: true }
    }

    pub(super) fn without_tags(self) -> Self {
        Self { tags: false, ..self }
    }

    pub(super) fn set(&self, preempted: &'static str, maintenance: &'static str) {
        self.values.send_replace([preempted, maintenance]);
    }

    async fn value(&self, key: usize, asked: &Asked) -> Said {
        let mut values = self.values.subscribe();
        let tag = |value: &str| format!("e{:x}", value.len());
        if asked.parameter("wait_for_change") == Some("true") {
            let known = asked.parameter("last_etag").unwrap_or_default().to_owned();
            let changed = values.wait_for(|values| tag(values[key]) != known);
            match asked.parameter("timeout_sec").map(|time| Duration::from_secs(time.parse().unwrap())) {
                Some(time) => drop(timeout(time, changed).await),
                None => drop(changed.await),
            }
        }
        let value = self.values.borrow()[key];
        let etag = self.tags.then(|| ("ETag", tag(value)));
        let flavor = [("Metadata-Flavor", "Google".to_owned()), ("Content-Type", "application/text".to_owned())];
        Said { headers: flavor.into_iter().chain(etag).collect(), ..Said::new(200, value) }
    }
}

impl Cloud for Gce {
    async fn answer(&self, asked: &Asked) -> Said {
        if asked.header("metadata-flavor") != Some("Google") || asked.header("x-forwarded-for").is_some() {
            return Said::new(403, "Missing Metadata-Flavor:Google header.");
        }
        match (asked.method.as_str(), asked.path.as_str()) {
            ("GET", "/computeMetadata/v1/instance/preempted") => self.value(0, asked).await,
            ("GET", "/computeMetadata/v1/instance/maintenance-event") => self.value(1, asked).await,
            ("GET", _) => Said { headers: vec![("Metadata-Flavor", "Google".into())], ..Said::new(404, "") },
            _ => Said { headers: vec![("Metadata-Flavor", "Google".into())], ..Said::new(405, "") },
        }
    }
}

/// Azure's scheduled events and the name of the instance `worker_1`.
#[derive(Debug)]
pub(super) struct AzureVm {
    state: Mutex<AzureState>,
    /// Time for the first question about events.
    first: Duration,
}

#[derive(Debug)]
struct AzureState {
    is_on: bool,
    incarnation: u64,
    events: Vec<Value>,
}

impl AzureVm {
    pub(super) fn new(first: Duration) -> Self {
        Self { state: Mutex::new(AzureState { is_on: false, incarnation: 1, events: Vec::new() }), first }
    }

    pub(super) fn set(&self, events: &[Value]) {
        let mut state = self.state.lock().unwrap();
        state.incarnation += 1;
        state.events = events.to_vec();
    }

    pub(super) fn statuses(&self) -> Vec<String> {
        self.state.lock().unwrap().events.iter().map(|event| event["EventStatus"].as_str().unwrap().to_owned()).collect()
    }

    async fn events(&self, asked: &Asked) -> Said {
        let was_on = std::mem::replace(&mut self.state.lock().unwrap().is_on, true);
        if !was_on {
            sleep(self.first).await;
        }
        match asked.method.as_str() {
            "GET" => {
                let state = self.state.lock().unwrap();
                Said::new(200, json!({ "DocumentIncarnation": state.incarnation, "Events": state.events }).to_string())
            }
            "POST" => self.approve(&asked.body),
            _ => Said::new(405, ""),
        }
    }

    fn approve(&self, body: &str) -> Said {
        let body: Value = serde_json::from_str(body).unwrap_or_default();
        let Some(requests) = body["StartRequests"].as_array() else { return bad("no StartRequests") };
        let mut state = self.state.lock().unwrap();
        for request in requests {
            let Some(event) = state.events.iter_mut().find(|event| event["EventId"] == request["EventId"]) else {
                return bad("no such event");
            };
            event["EventStatus"] = "Started".into();
            event["NotBefore"] = "".into();
        }
        state.incarnation += 1;
        Said::new(200, "")
    }
}

fn bad(why: &str) -> Said {
    Said::new(400, json!({ "error": why }).to_string())
}

impl Cloud for AzureVm {
    async fn answer(&self, asked: &Asked) -> Said {
        if asked.header("metadata") != Some("true") || asked.header("x-forwarded-for").is_some() {
            return bad("Bad request. Required metadata header not specified");
        }
        let version = asked.parameter("api-version");
        match asked.path.as_str() {
            "/metadata/scheduledevents" if version == Some("2020-07-01") => self.events(asked).await,
            "/metadata/instance/compute/name" if version.is_some() && asked.parameter("format") == Some("text") => {
                Said::new(200, "worker_1")
            }
            "/metadata/scheduledevents" | "/metadata/instance/compute/name" => bad("api-version or format is missing"),
            _ => Said::new(404, ""),
        }
    }
}

/// A URL of one's own: answers whatever it is set to.
#[derive(Debug)]
pub(super) struct Own(Mutex<Said>);

impl Own {
    pub(super) fn new(said: Said) -> Self {
        Self(Mutex::new(said))
    }

    pub(super) fn set(&self, said: Said) {
        *self.0.lock().unwrap() = said;
    }
}

impl Cloud for Own {
    async fn answer(&self, _: &Asked) -> Said {
        self.0.lock().unwrap().clone()
    }
}
