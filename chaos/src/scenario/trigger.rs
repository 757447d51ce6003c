//! When a fault strikes.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::span::Span;

/// When, and how long after that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Trigger {
    /// What is waited for.
    pub when: When,
    /// How long after it the fault strikes.
    pub after: Duration,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// A step begins for the first time.
    Step(u64),
    /// A time since the start.
    Time(Duration),
    /// The n-th happening of a name in the history, from 1.
    Event {
        /// See [`crate::history::Happening::name`].
        name: String,
        /// Which of them.
        nth: u32,
    },
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t: Option<Span>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nth: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Span>,
}

impl TryFrom<Written> for Trigger {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let when = match (written.step, written.t, written.event) {
            (Some(step), None, None) => When::Step(step),
            (None, Some(time), None) => When::Time(time.0),
            (None, None, Some(name)) => When::Event { name, nth: written.nth.unwrap_or(1).max(1) },
            _ => return Err("`at` takes one of step, t and event".into()),
        };
        if written.nth.is_some() && !matches!(when, When::Event { .. }) {
            return Err("`nth` belongs to an event".into());
        }
        Ok(Self { when, after: written.after.unwrap_or_default().0 })
    }
}

impl From<Trigger> for Written {
    fn from(trigger: Trigger) -> Self {
        let after = (!trigger.after.is_zero()).then_some(Span(trigger.after));
        let written = Self { after, ..Self::default() };
        match trigger.when {
            When::Step(step) => Self { step: Some(step), ..written },
            When::Time(time) => Self { t: Some(Span(time)), ..written },
            When::Event { name, nth } => Self { event: Some(name), nth: Some(nth), ..written },
        }
    }
}
