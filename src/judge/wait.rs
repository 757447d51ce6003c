//! What can be waited for: conditions on the run, joined with ` and `.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;

use everstep_actors::desk::view::{Item, Properties, RunView, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Fields that are numbers, and what they count.
const NUMBERS: [(&str, &str); 11] = [
    ("step", "steps committed"),
    ("steps", "steps of the run"),
    ("epoch", "the current epoch"),
    ("ranks", "ranks that compute"),
    ("lanes", "lanes of a step"),
    ("checkpoint", "the newest checkpoint's step"),
    ("ledger", "steps in the durable ledger"),
    ("images_per_s", "images per second"),
    ("progress_age_ms", "milliseconds since the last commit"),
    ("loss", "the loss; also `entropy`, `lr`, `metrics.NAME`, `phases.NAME`"),
    ("samples", "samples used"),
];
const METRICS: [&str; 2] = ["entropy", "lr"];
/// Fields that are text.
const TEXTS: [&str; 4] = ["state", "waiting", "leader", "paused"];
/// Comparisons, the longer ones first.
const SIGNS: [(&str, Sign); 8] = [
    (">=", Sign::AtLeast),
    ("<=", Sign::AtMost),
    ("!=", Sign::Unequal),
    ("==", Sign::Equal),
    ("=", Sign::Equal),
    (">", Sign::More),
    ("<", Sign::Less),
    ("~", Sign::Contains),
];

/// What is waited for.
#[derive(Debug, Clone, PartialEq)]
pub struct Expression {
    conditions: Vec<Condition>,
}

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    field: String,
    sign: Sign,
    value: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    AtLeast,
    AtMost,
    More,
    Less,
    Equal,
    Unequal,
    Contains,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Number(f64),
    Text(String),
}

/// What `everstep wait --json` prints once it holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Held {
    /// The version of this schema.
    pub schema_version: u32,
    /// What was waited for.
    pub expression: String,
    /// The fields that it names and their values.
    pub values: BTreeMap<String, String>,
    /// After how long.
    pub seconds: f64,
}

/// How things stand with an expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Whether all of it holds.
    pub holds: bool,
    /// Whether the run has ended: what does not hold now will not come true.
    pub over: bool,
    /// The fields that it names and their values now.
    pub values: Vec<(String, String)>,
}

impl Expression {
    /// Reads `step>=1000 and state=training`.
    ///
    /// # Errors
    /// One sentence that says what can be typed.
    pub fn parse(text: &str) -> Result<Self, String> {
        let parts = text.split(" and ").flat_map(|part| part.split("&&"));
        let conditions = parts.map(|part| condition(part.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { conditions })
    }

    /// How things stand.
    pub fn standing(&self, view: &View) -> Standing {
        let run = view.items.iter().find_map(|item| match &item.properties {
            Properties::Run(run) => Some((item, run)),
            _ => None,
        });
        let mut values: Vec<(String, String)> = Vec::new();
        let mut holds = run.is_some();
        for condition in &self.conditions {
            let value = run.and_then(|(item, run)| condition.of(item, run));
            holds &= value.as_ref().is_some_and(|value| condition.holds(value));
            let told = value.map_or_else(|| "unknown".to_owned(), |value| value.to_string());
            if values.iter().all(|(field, _)| *field != condition.field) {
                values.push((condition.field.clone(), told));
            }
        }
        Standing { holds, over: run.is_some_and(|(item, _)| item.state == "ended"), values }
    }
}

impl Condition {
    fn of(&self, item: &Item, run: &RunView) -> Option<Value> {
        let number = |value: u64| Some(Value::Number(value as f64));
        let within = |name: &str| run.metrics.get(name).copied().map(Value::Number);
        match self.field.as_str() {
            "step" => number(run.step),
            "steps" => number(run.steps),
            "epoch" => number(run.epoch),
            "ranks" => number(u64::from(run.ranks)),
            "lanes" => number(u64::from(run.lanes)),
            "checkpoint" => number(run.checkpoint?),
            "ledger" => number(run.ledger),
            "samples" => number(run.samples),
            "images_per_s" => Some(Value::Number(run.images_per_s)),
            "progress_age_ms" => number(run.progress_age_ms),
            "state" => Some(Value::Text(item.state.clone())),
            "waiting" => Some(Value::Text(run.waiting.clone().unwrap_or_default())),
            "leader" => Some(Value::Text(run.leader.clone())),
            "paused" => Some(Value::Text((run.paused || item.state == "paused").to_string())),
            other => match other.split_once('.') {
                Some(("phases", phase)) => run.phases.get(phase).copied().map(Value::Number),
                Some((_, name)) => within(name),
                None => within(other),
            },
        }
    }

    fn holds(&self, value: &Value) -> bool {
        let order = match (value, &self.value) {
            (Value::Number(now), Value::Number(wanted)) => now.partial_cmp(wanted),
            (Value::Text(now), Value::Text(wanted)) if self.sign == Sign::Contains => return now.contains(wanted.as_str()),
            (Value::Text(now), Value::Text(wanted)) => Some(now.cmp(wanted)),
            _ => None,
        };
        match self.sign {
            Sign::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            Sign::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Sign::More => order == Some(Ordering::Greater),
            Sign::Less => order == Some(Ordering::Less),
            Sign::Equal => order == Some(Ordering::Equal),
            Sign::Unequal => order.is_some_and(|order| order != Ordering::Equal),
            Sign::Contains => false,
        }
    }
}

fn condition(text: &str) -> Result<Condition, String> {
    let found = SIGNS.iter().filter_map(|(sign, meaning)| Some((text.find(sign)?, sign.len(), *meaning)));
    let first = found.min_by_key(|(at, length, _)| (*at, std::cmp::Reverse(*length)));
    let (at, length, sign) = first.ok_or_else(|| {
        format!("{text:?} is no condition: type a field, one of >= <= > < = != ~ and a value, such as step>=1000 or state=ended")
    })?;
    let (field, value) = (text[..at].trim().to_owned(), text[at + length..].trim());
    let is_number = NUMBERS.iter().any(|(name, _)| *name == field)
        || METRICS.contains(&field.as_str())
        || field.split_once('.').is_some_and(|(of, name)| matches!(of, "metrics" | "phases") && !name.is_empty());
    if is_number {
        let number: f64 = value.replace('_', "").parse().map_err(|_| format!("{field} is a number, and {value:?} is none"))?;
        if sign == Sign::Contains {
            return Err(format!("{field} is a number: compare it with >= <= > < = or !="));
        }
        return Ok(Condition { field, sign, value: Value::Number(number) });
    }
    if !TEXTS.contains(&field.as_str()) {
        let names: Vec<&str> = NUMBERS.iter().map(|(name, _)| *name).chain(METRICS).chain(TEXTS).collect();
        return Err(format!("there is no {field:?} to wait for: there are {}, metrics.NAME and phases.NAME", names.join(", ")));
    }
    if !matches!(sign, Sign::Equal | Sign::Unequal | Sign::Contains) {
        return Err(format!("{field} is text: compare it with = != or ~ (contains)"));
    }
    if field == "paused" && !["true", "false"].contains(&value) {
        return Err(format!("paused is true or false, and not {value:?}"));
    }
    Ok(Condition { field, sign, value: Value::Text(value.to_owned()) })
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for Sign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = SIGNS.iter().rev().find(|(_, sign)| sign == self).map_or("=", |(sign, _)| sign);
        f.write_str(sign)
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.conditions.iter().map(|Condition { field, sign, value }| format!("{field}{sign}{value}")).collect();
        f.write_str(&all.join(" and "))
    }
}

impl Standing {
    /// `step=1003, state=training`.
    pub fn text(&self) -> String {
        let all: Vec<String> = self.values.iter().map(|(field, value)| format!("{field}={value}")).collect();
        all.join(", ")
    }
}

#[cfg(test)]
mod tests;
