//! Any URL: a notice stands while it answers 200, and none while it answers 204 or 404.

use std::time::Duration;

use hyper::StatusCode;

use super::file::Wish;
use super::http::{Client, Query, Reply};
use super::{Answer, Ask};

/// A URL that is asked.
#[derive(Debug)]
pub(super) struct Endpoint {
    client: Client,
    url: String,
}

impl Endpoint {
    /// Asks `url` with GET.
    pub(super) fn new(client: Client, url: &str) -> Self {
        Self { client, url: url.to_owned() }
    }

    fn hear(&self, reply: &Reply) -> Answer {
        match reply.status {
            StatusCode::NO_CONTENT | StatusCode::NOT_FOUND => Answer::Clear,
            StatusCode::OK => {
                let wish = reply.text().and_then(Wish::parse);
                let garbage = || Answer::Silent("its answer is neither empty nor JSON with `deadline_s` and `because`".into());
                wish.map_or_else(garbage, |wish| Answer::Stands(wish.stands(Duration::ZERO, &self.url)))
            }
            status => Answer::Silent(format!("status {}", status.as_u16())),
        }
    }
}

impl Ask for Endpoint {
    async fn ask(&mut self) -> Answer {
        match self.client.send(Query::get(self.url.clone(), &[])).await {
            Ok(reply) => self.hear(&reply),
            Err(why) => Answer::Silent(why.to_string()),
        }
    }
}
