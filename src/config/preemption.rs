//! `[preemption]`: who is asked whether this machine is about to be taken away. Nothing here reaches the mathematics.

use std::fmt;

use hyper::Uri;
use serde::{Deserialize, Serialize};

use super::{check, error::Invalid};

/// `[preemption]`: who is asked whether this machine is about to be taken away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Preemption {
    /// Sources of notices: `"aws"`, `"gcp"`, `"azure"`, `"file:PATH"` and `"http://HOST/PATH"`. Default none.
    pub sources: Vec<NoticeSource>,
    /// Seconds between two questions to a source. Default 2.
    pub poll: f64,
    /// Whether AWS's advice to move early (rebalance recommendation) counts as a notice. Default false: it has no deadline, and
    /// an interruption need not follow.
    pub aws_rebalance: bool,
    /// Name of this machine in the `Resources` of Azure's scheduled events; asked of Azure's instance metadata when left out.
    pub azure_resource: Option<String>,
    /// Whether a drained node tells Azure to start the event at once, where it concerns this machine alone. Default false.
    pub azure_approve: bool,
    /// Where the clouds' metadata services are.
    pub base_url: MetadataUrls,
}

/// `[preemption.base_url]`: where the clouds' metadata services are. Default `http://169.254.169.254` for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetadataUrls {
    /// The instance metadata service of EC2 (`http://[fd00:ec2::254]` on a machine without IPv4).
    pub aws: String,
    /// The metadata server of Compute Engine.
    pub gcp: String,
    /// The instance metadata service of Azure.
    pub azure: String,
}

/// Someone who can say that this machine is about to be taken away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum NoticeSource {
    /// Spot instances of EC2.
    Aws,
    /// Spot instances and host maintenance of Compute Engine.
    Gcp,
    /// Scheduled events of Azure.
    Azure,
    /// A notice stands while a file is there.
    File(String),
    /// A notice stands while a URL answers 200.
    Http(String),
}

impl fmt::Display for NoticeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Aws => write!(f, "aws"),
            Self::Gcp => write!(f, "gcp"),
            Self::Azure => write!(f, "azure"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Http(url) => write!(f, "{url}"),
        }
    }
}

impl From<NoticeSource> for String {
    fn from(source: NoticeSource) -> Self {
        source.to_string()
    }
}

impl TryFrom<String> for NoticeSource {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let file = || text.strip_prefix("file:").filter(|path| !path.is_empty()).map(|path| Self::File(path.into()));
        let http = || is_plain_http(&text).then(|| Self::Http(text.clone()));
        match text.as_str() {
            "aws" => Ok(Self::Aws),
            "gcp" => Ok(Self::Gcp),
            "azure" => Ok(Self::Azure),
            _ => file().or_else(http).ok_or_else(|| {
                format!(
                    "holds \"{text}\", which is no source of notices: use \"aws\", \"gcp\", \"azure\", \"file:PATH\" or \"http://HOST/PATH\""
                )
            }),
        }
    }
}

impl Default for Preemption {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            poll: 2.0,
            aws_rebalance: false,
            azure_resource: None,
            azure_approve: false,
            base_url: MetadataUrls::default(),
        }
    }
}

impl Default for MetadataUrls {
    fn default() -> Self {
        let link_local = || "http://169.254.169.254".to_owned();
        Self { aws: link_local(), gcp: link_local(), azure: link_local() }
    }
}

impl Preemption {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        check::within("preemption.sources", self.sources.len(), 0, 16).map_err(|invalid| Invalid {
            problem: format!("names {} sources", self.sources.len()),
            remedy: "use at most 16".into(),
            ..invalid
        })?;
        for (at, source) in self.sources.iter().enumerate() {
            check::require(!self.sources[..at].contains(source), "preemption.sources", || {
                (format!("names \"{source}\" twice"), "keep it once".into())
            })?;
        }
        check::within("preemption.poll", self.poll, 0.1, 60.0)?;
        check::require(self.azure_resource.as_deref() != Some(""), "preemption.azure_resource", || {
            ("is empty".into(), "give the machine's name, or leave the key out".into())
        })?;
        let urls = [
            ("preemption.base_url.aws", &self.base_url.aws),
            ("preemption.base_url.gcp", &self.base_url.gcp),
            ("preemption.base_url.azure", &self.base_url.azure),
        ];
        urls.into_iter().try_for_each(|(key, url)| {
            check::require(is_plain_http(url) && !url.contains('?'), key, || {
                (format!("is \"{url}\", which is no base URL"), "write it as http://HOST or http://HOST:PORT".into())
            })
        })
    }
}

/// `http://HOST…` without a password: metadata services speak no TLS, and what this machine asks itself needs none.
fn is_plain_http(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|uri| {
        let host = uri.authority().filter(|authority| !authority.host().is_empty() && !authority.as_str().contains('@'));
        uri.scheme_str() == Some("http") && host.is_some()
    })
}
