//! The doctor: named lints over a view and what happened, each with what it looks for, its threshold and a remedy.
//!
//! What happened is what is durable and, in the view, what the leader remembers: a full disk cannot be told of in the log that lies on it.
//!
//! A lint that has nothing to look at (the store knows no actors) is said to be left out: silence never passes for health.

use std::collections::BTreeMap;

use everstep_actors::desk::view::{Item, Properties, RunView, Scope, View};
use everstep_actors::event::Recorded;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layout::{WIDTH, count, fit, named, wrap};
use super::story::Story;

mod actors;
mod catalogue;
mod events;
mod nodes;
mod pace;
mod state;

pub use catalogue::CATALOGUE;

/// Findings of one lint that are told one by one to people.
const TOLD_MAX: usize = 5;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// Somebody has to act.
    Fault,
    /// Somebody should look.
    Warning,
    /// Good to know.
    Note,
}

impl Grade {
    /// `fault`, `warning` or `note`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fault => "fault",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// A lint, as documented by `doctor --list`.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
pub struct Lint {
    /// Its name.
    pub name: &'static str,
    /// How bad it is when it finds something.
    pub grade: Grade,
    /// What it looks for.
    pub what: &'static str,
    /// From when on it speaks up.
    pub threshold: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    #[serde(skip)]
    check: fn(&Case<'_>) -> Result<Vec<Seen>, &'static str>,
}

/// Something that a lint found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The lint's name.
    pub lint: String,
    /// How bad it is.
    pub grade: Grade,
    /// At what.
    pub reference: String,
    /// What is wrong, one sentence.
    pub says: String,
    /// What to do.
    pub remedy: String,
}

/// What the doctor found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Diagnosis {
    /// The version of this schema.
    pub schema_version: u32,
    /// When it was true, milliseconds since the Unix epoch.
    pub as_of_ms: u64,
    /// Whether no fault stands.
    pub healthy: bool,
    /// One sentence.
    pub summary: String,
    /// Those that were asked for, the worst first unless they are sorted by something else.
    pub findings: Vec<Finding>,
    /// Lints that looked.
    pub checked: Vec<String>,
    /// Lints that had nothing to look at, and why.
    pub left_out: BTreeMap<String, String>,
}

/// What lints look at.
#[derive(Debug)]
struct Case<'a> {
    view: &'a View,
    story: &'a Story,
    now_ms: u64,
}

/// What a lint sees: at what, and what is wrong.
type Seen = (String, String);

/// Runs all lints.
pub fn diagnose(view: &View, events: &[Recorded]) -> Diagnosis {
    let mut story = Story::of(events);
    for recorded in view.items.iter().filter_map(Item::recorded) {
        story.add(&recorded);
    }
    let case = Case { view, story: &story, now_ms: view.as_of_ms };
    let (mut findings, mut checked, mut left_out) = (Vec::new(), Vec::new(), BTreeMap::new());
    for lint in CATALOGUE {
        match (lint.check)(&case) {
            Err(because) => drop(left_out.insert(lint.name.to_owned(), because.to_owned())),
            Ok(seen) => {
                checked.push(lint.name.to_owned());
                findings.extend(seen.into_iter().map(|(reference, says)| Finding {
                    lint: lint.name.to_owned(),
                    grade: lint.grade,
                    reference,
                    says,
                    remedy: lint.remedy.to_owned(),
                }));
            }
        }
    }
    findings.sort_by_key(|finding: &Finding| finding.grade);
    let healthy = findings.iter().all(|finding| finding.grade != Grade::Fault);
    let summary = summary(view, &findings, checked.len());
    Diagnosis { schema_version: super::SCHEMA_VERSION, as_of_ms: view.as_of_ms, healthy, summary, findings, checked, left_out }
}

fn summary(view: &View, findings: &[Finding], checked: usize) -> String {
    let of = |grade: Grade| findings.iter().filter(|finding| finding.grade == grade).count() as u64;
    let parts: Vec<String> = [Grade::Fault, Grade::Warning, Grade::Note]
        .into_iter()
        .filter(|grade| of(*grade) > 0)
        .map(|grade| count(of(grade), grade.name()))
        .collect();
    let run = view
        .run()
        .map_or_else(|| "the run".to_owned(), |run| format!("step {} of {}, {}", run.step, run.steps, count(u64::from(run.ranks), "rank")));
    let lints = count(checked as u64, "lint");
    if parts.is_empty() {
        format!("healthy: {run}; {lints} looked and found nothing")
    } else {
        format!("{}: {run}; {lints} looked", parts.join(", "))
    }
}

impl Diagnosis {
    /// For people.
    pub fn text(&self) -> Vec<String> {
        let mut lines = wrap(&self.summary, WIDTH, 2);
        let first = |lint: &Lint| self.findings.iter().position(|finding| finding.lint == lint.name);
        let mut lints: Vec<&Lint> = CATALOGUE.iter().collect();
        lints.sort_by_key(|lint| first(lint));
        for lint in lints {
            let found: Vec<&Finding> = self.findings.iter().filter(|finding| finding.lint == lint.name).collect();
            if found.is_empty() {
                continue;
            }
            lines.push(String::new());
            lines.push(fit(&format!("{} {}: {}", lint.grade.name(), lint.name, lint.what), WIDTH));
            let told =
                found.iter().take(TOLD_MAX).flat_map(|finding| wrap(&format!("{}: {}", finding.reference, finding.says), WIDTH - 2, 2));
            lines.extend(told.map(|line| format!("  {line}")));
            if found.len() > TOLD_MAX {
                lines.push(format!("  and {} more: `everstep doctor --json` has all", found.len() - TOLD_MAX));
            }
            lines.extend(wrap(&format!("remedy: {}", lint.remedy), WIDTH - 2, 2).into_iter().map(|line| format!("  {line}")));
        }
        lines
    }
}

/// Lints of the catalogue, for people.
pub fn catalogue(lints: &[Lint]) -> Vec<String> {
    let mut lines = Vec::new();
    for lint in lints {
        lines.push(format!("{} ({})", lint.name, lint.grade.name()));
        for (name, text) in [("looks for", lint.what), ("from", lint.threshold), ("remedy", lint.remedy)] {
            lines.extend(named(&format!("  {name}"), text, 13));
        }
    }
    lines
}

impl<'a> Case<'a> {
    /// Items with the properties that `pick` takes.
    fn all<T: 'a>(&self, pick: impl Fn(&'a Properties) -> Option<&'a T>) -> impl Iterator<Item = (&'a Item, &'a T)> {
        self.view.items.iter().filter_map(move |item| Some((item, pick(&item.properties)?)))
    }

    /// As [`Self::all`], for what the store alone does not know.
    fn live<T: 'a>(&self, pick: impl Fn(&'a Properties) -> Option<&'a T>) -> Result<Vec<(&'a Item, &'a T)>, &'static str> {
        let all: Vec<_> = self.all(pick).collect();
        match (all.is_empty(), self.view.scope) {
            (true, Scope::Store) => Err("no node answers, and the store does not know"),
            (true, Scope::Run | Scope::Node) => Err("the answer holds none of them"),
            (false, _) => Ok(all),
        }
    }

    fn run(&self) -> Result<(&'a Item, &'a RunView), &'static str> {
        let run = self.all(|properties| if let Properties::Run(run) = properties { Some(run) } else { None }).next();
        run.ok_or("nobody tells anything of the run")
    }

    /// The run, unless it has ended.
    fn going(&self) -> Result<(&'a Item, &'a RunView), &'static str> {
        self.run().and_then(|(item, run)| if item.state == "ended" { Err("the run has ended") } else { Ok((item, run)) })
    }
}

/// Milliseconds in words.
fn ms(milliseconds: u64) -> String {
    crate::report::duration(milliseconds as f64 / 1e3)
}

#[cfg(test)]
mod tests;
