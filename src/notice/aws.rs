//! EC2: the instance metadata service with session tokens (IMDSv2). Facts:
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/spot-instance-termination-notices.html>,
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/rebalance-recommendations.html>.

use hyper::{Method, StatusCode};
use serde::Deserialize;

use super::http::{Client, PROMPT, Query, Reply};
use super::moment::{rfc3339, until};
use super::{Answer, Ask, Kind, Stands, plain};

const TOKEN: &str = "/latest/api/token";
const ACTION: &str = "/latest/meta-data/spot/instance-action";
const REBALANCE: &str = "/latest/meta-data/events/recommendations/rebalance";
/// The longest that a token may live, in seconds; when it is over, the service says so.
const TOKEN_LIFE: &str = "21600";

/// One instance's spot notices.
#[derive(Debug)]
pub(super) struct Aws {
    client: Client,
    base: String,
    rebalance: bool,
    token: Option<String>,
}

/// `spot/instance-action`.
#[derive(Deserialize)]
struct Action {
    action: String,
    time: Option<String>,
}

/// `events/recommendations/rebalance`.
#[derive(Deserialize)]
struct Rebalance {
    #[serde(rename = "noticeTime")]
    notice_time: String,
}

impl Aws {
    /// Asks the service at `base`; for advice to move as well where `rebalance`.
    pub(super) fn new(client: Client, base: &str, rebalance: bool) -> Self {
        Self { client, base: base.trim_end_matches('/').into(), rebalance, token: None }
    }

    /// The answer to a path; a token that has run out is replaced once.
    async fn get(&mut self, path: &str) -> Result<Reply, String> {
        let known = self.token.take();
        if let Some(token) = known {
            let reply = self.get_with(path, &token).await?;
            if reply.status != StatusCode::UNAUTHORIZED {
                self.token = Some(token);
                return Ok(reply);
            }
        }
        let token = self.new_token().await?;
        let reply = self.get_with(path, &token).await?;
        self.token = Some(token).filter(|_| reply.status != StatusCode::UNAUTHORIZED);
        Ok(reply)
    }

    async fn get_with(&self, path: &str, token: &str) -> Result<Reply, String> {
        let headers = [("x-aws-ec2-metadata-token", token)];
        self.client.send(Query::get(format!("{}{path}", self.base), &headers)).await.map_err(|why| why.to_string())
    }

    async fn new_token(&self) -> Result<String, String> {
        let headers = [("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_LIFE)];
        let url = format!("{}{TOKEN}", self.base);
        let query = Query { method: Method::PUT, url, headers: &headers, body: String::new(), within: PROMPT };
        let reply = self.client.send(query).await.map_err(|why| format!("no session token: {why}"))?;
        let token = reply.text().filter(|token| reply.status == StatusCode::OK && !token.is_empty());
        token.map(str::to_owned).ok_or_else(|| format!("no session token: status {}", reply.status.as_u16()))
    }

    async fn rebalance(&mut self) -> Answer {
        match self.get(REBALANCE).await {
            Ok(reply) => answer(&reply, advice),
            Err(why) => Answer::Silent(why),
        }
    }
}

impl Ask for Aws {
    async fn ask(&mut self) -> Answer {
        match self.get(ACTION).await.map(|reply| answer(&reply, decision)) {
            Ok(Answer::Clear) if self.rebalance => self.rebalance().await,
            Ok(answer) => answer,
            Err(why) => Answer::Silent(why),
        }
    }
}

/// 404 to a valid token is the service's way to say that there is nothing.
fn answer(reply: &Reply, read: fn(&Reply) -> Option<Stands>) -> Answer {
    match reply.status {
        StatusCode::NOT_FOUND => Answer::Clear,
        StatusCode::OK => read(reply).map_or_else(|| Answer::Silent("its answer is no notice of EC2".into()), Answer::Stands),
        status => Answer::Silent(format!("status {}", status.as_u16())),
    }
}

fn decision(reply: &Reply) -> Option<Stands> {
    let Action { action, time } = serde_json::from_slice(&reply.body).ok()?;
    let kind = match action.as_str() {
        "stop" => Kind::Stop,
        "hibernate" => Kind::Hibernate,
        // An action that is not known yet is no reason to stay.
        _ => Kind::Terminate,
    };
    let time = time.unwrap_or_default();
    let left = rfc3339(&time).map(|moment| until(moment, reply));
    Some(Stands { kind, left, because: plain(&format!("EC2 reclaims this spot instance: {action} at {time}")) })
}

fn advice(reply: &Reply) -> Option<Stands> {
    let Rebalance { notice_time } = serde_json::from_slice(&reply.body).ok()?;
    let because = plain(&format!("EC2 says since {notice_time} that this spot instance is likely to be reclaimed"));
    Some(Stands { kind: Kind::Rebalance, left: None, because })
}
