//! What is answered to which address.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use everstep_actors::desk::question::{Kind, Question};
use everstep_actors::desk::view::{Item, View};
use everstep_actors::event::Recorded;
use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SET_COOKIE, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};

use super::guard::{Guard, Pass};
use super::live::{Listener, Live};
use super::serve::Limits;
use super::sight::Sight;
use super::{curves, page, query};
use crate::desk::eye::Eye;
use crate::metrics;

/// Events of one answer when nobody says, and the most.
const EVENTS: (u64, u64) = (500, 5000);

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// An answer: a whole one, or one that goes on.
pub(super) type Answer = Response<Either<Full<Bytes>, Listener>>;

/// All that requests are answered from.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) sight: Sight,
    pub(super) live: Live,
    guard: Guard,
}

/// Why there is no answer.
type Refusal = (StatusCode, String);

impl Desk {
    pub(super) fn new(eye: Arc<dyn Eye>, guard: Guard, limits: Limits) -> Arc<Self> {
        Arc::new(Self { sight: Sight::new(eye), live: Live::new(limits.listeners), guard })
    }

    /// Answers within `patience`, whatever is asked.
    pub(super) async fn answer(&self, request: Request<Incoming>, patience: Duration) -> Result<Answer, Infallible> {
        let mut answer = match tokio::time::timeout(patience, self.route(&request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err((status, sentence))) => whole(status, TEXT, sentence + "\n"),
            Err(_) => whole(StatusCode::GATEWAY_TIMEOUT, TEXT, "the run did not answer in time\n"),
        };
        let status = answer.status();
        let headers = answer.headers_mut();
        let mut say = |name: &'static str, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
        say("x-content-type-options", "nosniff");
        say("x-frame-options", "DENY");
        say("referrer-policy", "no-referrer");
        say("cross-origin-resource-policy", "same-origin");
        say("cross-origin-opener-policy", "same-origin");
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET"));
        } else if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        } else if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("5"));
        }
        Ok(answer)
    }

    async fn route(&self, request: &Request<Incoming>) -> Result<Answer, Refusal> {
        if request.method() != Method::GET {
            return Err((StatusCode::METHOD_NOT_ALLOWED, "this page only shows: nothing but GET is answered".into()));
        }
        let path = request.uri().path();
        // Whoever keeps the process alive needs no token: these two tell nothing of the run but whether it can be seen.
        match path {
            "/livez" => return Ok(whole(StatusCode::OK, TEXT, "alive\n")),
            "/readyz" => return self.ready().await,
            _ => {}
        }
        let pass = self.guard.check(request.uri(), request.headers()).map_err(|(status, sentence)| (status, sentence.to_owned()))?;
        let asked = request.uri().query().unwrap_or_default();
        let mut answer = match path {
            "/" => page::answer()?,
            "/v1/view" => self.view(asked).await?,
            "/v1/events" => self.events(asked).await?,
            "/v1/curves" => json(&curves::of(&self.sight.events().await.map_err(unseen)?))?,
            "/v1/schema" => json(&schemars::schema_for!(View))?,
            "/events" => self.listen()?,
            "/metrics" => self.metrics().await?,
            _ => return Err((StatusCode::NOT_FOUND, "there is nothing here; the page is at /".into())),
        };
        if let Pass::Cookie(cookie) = pass {
            let cookie = HeaderValue::from_str(&cookie).map_err(broken)?;
            answer.headers_mut().insert(SET_COOKIE, cookie);
        }
        Ok(answer)
    }

    async fn ready(&self) -> Result<Answer, Refusal> {
        match self.sight.overview().await {
            Ok(_) => Ok(whole(StatusCode::OK, TEXT, "ready\n")),
            Err(_) => Err((StatusCode::SERVICE_UNAVAILABLE, "the run cannot be seen".into())),
        }
    }

    async fn view(&self, asked: &str) -> Result<Answer, Refusal> {
        let question = query::question(asked).map_err(wrong)?;
        let mut view = self.sight.view(&question).await.map_err(unseen)?;
        let shown = view.items.len() as u64;
        if shown < view.matched {
            view.missing.push(format!("{shown} of {} items: the limit cut the rest", view.matched));
        }
        json(&view)
    }

    async fn events(&self, asked: &str) -> Result<Answer, Refusal> {
        let (mut since, mut limit, mut without) = (0, EVENTS.0, Vec::new());
        for (name, value) in query::pairs(asked) {
            match name.as_str() {
                "since_ms" => since = query::number(&name, &value).map_err(wrong)?,
                "limit" => limit = query::number(&name, &value).map_err(wrong)?.min(EVENTS.1),
                "without" => without.extend(value.split(',').map(str::to_owned)),
                "token" => {}
                other => return Err(wrong(format!("there is no parameter `{other}`; there are since_ms, without and limit"))),
            }
        }
        let all = self.sight.events().await.map_err(unseen)?;
        let wanted = |recorded: &&Recorded| recorded.at_ms >= since && !without.iter().any(|name| name == recorded.event.name());
        let items: Vec<Item> = all.iter().filter(wanted).map(Item::of_event).collect();
        let matched = items.len() as u64;
        // The newest are wanted, in order of time.
        let first = matched.saturating_sub(limit) as usize;
        json(&serde_json::json!({ "matched": matched, "items": &items[first..] }))
    }

    fn listen(&self) -> Result<Answer, Refusal> {
        let full = || (StatusCode::SERVICE_UNAVAILABLE, "too many listen; try again later".to_owned());
        let mut answer = Response::new(Either::Right(self.live.listen().ok_or_else(full)?));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        Ok(answer)
    }

    async fn metrics(&self) -> Result<Answer, Refusal> {
        let kinds = vec![Kind::Run, Kind::Node, Kind::Rank, Kind::Checkpoint, Kind::Actor, Kind::Link];
        let view = self.sight.view(&Question { kinds, ..Question::default() }).await.map_err(unseen)?;
        let events = self.sight.events().await.map_err(unseen)?;
        Ok(whole(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", metrics::text(&view, &events)))
    }
}

/// A whole answer.
pub(super) fn whole(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn json(value: &impl serde::Serialize) -> Result<Answer, Refusal> {
    Ok(whole(StatusCode::OK, JSON, serde_json::to_vec(value).map_err(broken)?))
}

fn wrong(sentence: String) -> Refusal {
    (StatusCode::BAD_REQUEST, sentence)
}

fn unseen(sentence: String) -> Refusal {
    (StatusCode::BAD_GATEWAY, sentence)
}

/// Something of ours is wrong.
pub(super) fn broken(error: impl std::fmt::Display) -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
