//! The files of a report: a timeline, a page, a summary from which the run can be replayed, and JUnit.

use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Failure, Figures, Report, Tally, Verdict, html};
use crate::checks::Violation;
use crate::error::ChaosError;
use crate::history::{Entry, Happening};
use crate::scenario::Scenario;
use crate::tier::Tier;

/// The summary's name.
pub const SUMMARY: &str = "summary.json";
/// The page's name.
pub(super) const PAGE: &str = "report.html";
const TIMELINE: &str = "timeline.jsonl";
const JUNIT: &str = "junit.xml";
/// Numbers above this are written in hexadecimal: many readers of JSON would round them.
const EXACT_MAX: u64 = 1 << 53;

/// What a replay needs, and what people ask first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Summary {
    pub(crate) scenario: Scenario,
    pub(crate) seed: u64,
    pub(crate) tier: Tier,
    holds: bool,
    failure: Option<Failure>,
    replay: String,
    wall_s: f64,
    figures: Figures,
    checks: Vec<Verdict>,
    faults: Vec<Tally>,
}

impl Summary {
    /// Reads the summary of a report.
    pub(crate) fn load(path: &Path) -> Result<Self, ChaosError> {
        let unread = |because: String| ChaosError::Unread { path: path.display().to_string(), because };
        let text = std::fs::read_to_string(path).map_err(|error| unread(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| unread(format!("it is no {SUMMARY} of a report: {error}")))
    }
}

impl Report {
    /// Writes the report's files.
    ///
    /// # Errors
    /// The folder cannot be made or written to.
    pub fn write(&mut self, folder: &Path) -> Result<(), ChaosError> {
        self.folder = Some(folder.to_owned());
        let unwritten = |error: std::io::Error| ChaosError::Unwritten { path: folder.display().to_string(), because: error.to_string() };
        let summary = serde_json::to_string_pretty(&self.summary()).map_err(|error| unwritten(error.into()))?;
        std::fs::create_dir_all(folder).map_err(unwritten)?;
        let files = [(TIMELINE, timeline(self)), (PAGE, html::page(self)), (JUNIT, junit(self)), (SUMMARY, summary)];
        files.into_iter().try_for_each(|(name, text)| std::fs::write(folder.join(name), text)).map_err(unwritten)
    }

    fn summary(&self) -> Summary {
        Summary {
            scenario: self.scenario.clone(),
            seed: self.seed,
            tier: self.tier,
            holds: self.holds(),
            failure: self.failure.clone(),
            replay: self.replay(),
            wall_s: self.wall_s,
            figures: self.figures.clone(),
            checks: self.verdicts.clone(),
            faults: self.tallies.clone(),
        }
    }
}

/// One line an event: faults, epochs, commits, checkpoints, and violations where they show. What each rank applies and the sizes
/// that are looked at every few seconds are left out.
fn timeline(report: &Report) -> String {
    let mut text = String::new();
    let mut violations = report.violations.iter().peekable();
    for (place, entry) in report.history.entries.iter().enumerate() {
        if !matches!(entry.what, Happening::Applied { .. } | Happening::Size { .. }) {
            let _ = writeln!(text, "{}", event(entry));
        }
        while let Some(Violation { check, because, .. }) = violations.next_if(|violation| violation.place <= place) {
            let line =
                json!({ "at_s": entry.at.as_secs_f64(), "node": entry.who, "event": "violation", "check": check, "because": because });
            let _ = writeln!(text, "{line}");
        }
    }
    text
}

/// An event with its fields beside its name.
fn event(entry: &Entry) -> Value {
    let mut line = Map::new();
    line.insert("at_s".into(), entry.at.as_secs_f64().into());
    line.insert("node".into(), entry.who.into());
    line.insert("event".into(), entry.what.name().into());
    let fields = serde_json::to_value(&entry.what).unwrap_or_default();
    if let Some(Value::Object(fields)) = fields.as_object().and_then(|tagged| tagged.values().next()) {
        line.extend(fields.iter().map(|(name, value)| (name.clone(), exact(value))));
    }
    Value::Object(line)
}

fn exact(value: &Value) -> Value {
    match value.as_u64() {
        Some(number) if number > EXACT_MAX => format!("{number:016x}").into(),
        _ => value.clone(),
    }
}

fn junit(report: &Report) -> String {
    let name = html::escaped(&report.scenario.name);
    let mut cases = String::new();
    let mut failures = 0;
    let mut case = |what: &str, because: Option<String>| {
        failures += u32::from(because.is_some());
        let _ = match because {
            None => writeln!(cases, "    <testcase classname=\"{name}\" name=\"{what}\"/>"),
            Some(because) => {
                let (because, text) = (html::escaped(&because), html::escaped(&report.to_string()));
                writeln!(
                    cases,
                    "    <testcase classname=\"{name}\" name=\"{what}\">\n      <failure message=\"{because}\">{text}</failure>\n    </testcase>"
                )
            }
        };
    };
    for verdict in &report.verdicts {
        case(&verdict.check.to_string(), verdict.because.clone());
    }
    let faults = report.failure.as_ref().filter(|failure| failure.check == "faults").map(|failure| failure.because.clone());
    case("faults", faults);
    let tests = report.verdicts.len() + 1;
    let time = report.wall_s;
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n  <testsuite name=\"{name}\" tests=\"{tests}\" failures=\"{failures}\" \
         time=\"{time:.3}\">\n    <properties>\n      <property name=\"seed\" value=\"{}\"/>\n      <property name=\"tier\" value=\"{}\"/>\n    \
         </properties>\n{cases}  </testsuite>\n</testsuites>\n",
        report.seed, report.tier
    )
}
