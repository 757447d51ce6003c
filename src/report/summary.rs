//! The report at the end of a run.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use everstep_actors::event::{Event, Recorded};
use serde::Serialize;

use super::{duration, names, tame};

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Where the run lives.
    pub run: String,
    /// `done`, `stopped` or `failed`; empty while it goes on.
    pub outcome: String,
    /// Steps committed.
    pub step: u64,
    /// Images seen in the events at hand.
    pub images: u64,
    /// Seconds of the steps in the events at hand.
    pub seconds: f64,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// ln K, the loss of a model that knows nothing.
    pub ln_k: f64,
    /// Entropy of the use of the prototypes over ln K: 1 when all are used alike.
    pub prototype_use: Option<f64>,
    /// The newest value of every score, percent.
    pub scores: BTreeMap<String, f64>,
    /// Step of the newest checkpoint.
    pub checkpoint: Option<u64>,
    /// Where the checkpoints are.
    pub checkpoints: String,
    /// Where the picture of the curves is, if one was drawn.
    pub curves: Option<String>,
    /// Images that could not be decoded.
    pub bad_images: u64,
}

impl Summary {
    /// From the events of a run.
    pub fn new(run: &str, prototypes: u32, checkpoints: &str, curves: Option<&str>, events: &[Recorded]) -> Self {
        let ln_k = f64::from(prototypes.max(1)).ln();
        let mut summary = Self {
            run: run.into(),
            outcome: String::new(),
            step: 0,
            images: 0,
            seconds: 0.0,
            loss: None,
            ln_k,
            prototype_use: None,
            scores: BTreeMap::new(),
            checkpoint: None,
            checkpoints: checkpoints.into(),
            curves: curves.map(str::to_owned),
            bad_images: 0,
        };
        events.iter().for_each(|recorded| summary.take_in(&recorded.event));
        summary
    }

    fn take_in(&mut self, event: &Event) {
        match event {
            Event::StepCommitted { step, metrics, seconds, images, .. } => {
                self.step = step.0.saturating_add(1);
                self.images += images;
                self.seconds += if seconds.is_finite() { *seconds } else { 0.0 };
                self.loss = metrics.get(names::LOSS).copied().or(self.loss);
                let used = metrics.get(names::ENTROPY).filter(|_| self.ln_k > 0.0).map(|entropy| entropy / self.ln_k);
                self.prototype_use = used.or(self.prototype_use);
            }
            Event::CheckpointSaved { step, .. } => self.checkpoint = Some(step.0),
            Event::Evaluated { scores, .. } => self.scores.extend(scores.iter().map(|(name, score)| (name.clone(), *score))),
            Event::SampleReplaced { .. } => self.bad_images += 1,
            Event::Ended { outcome, step, .. } => {
                self.outcome = outcome.clone();
                self.step = self.step.max(step.0);
            }
            _ => {}
        }
    }

    /// For people: a few lines, with a line break at the end.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, text: String| {
            let _ = writeln!(out, "{name:<24}{}", tame(&text));
        };
        let pace = if self.seconds > 0.0 { self.images as f64 / self.seconds } else { 0.0 };
        let took = duration(self.seconds);
        let outcome = if self.outcome.is_empty() { "running" } else { &self.outcome };
        line(outcome, format!("{} steps; {} images here in {took}, {pace:.0} images/s", self.step, self.images));
        if let Some(loss) = self.loss {
            line("loss", format!("{loss:.3} ({:+.3} to ln K = {:.3})", loss - self.ln_k, self.ln_k));
        }
        for (name, label) in LABELS {
            let Some(score) = self.scores.get(name) else { continue };
            let gain = self.scores.get(names::KNN).filter(|_| name != names::KNN).map(|knn| format!("  (trained {:+.1})", knn - score));
            line(label, format!("{score:.1} %{}", gain.unwrap_or_default()));
        }
        if let Some(used) = self.prototype_use {
            let warning = if used < COLLAPSING { ", low: the model may be collapsing" } else { "" };
            line("prototypes in use", format!("{:.1} % of the entropy of even use{warning}", 100.0 * used));
        }
        if self.bad_images > 0 {
            line("images replaced", format!("{} that could not be decoded", self.bad_images));
        }
        let newest = self.checkpoint.map(|step| format!(" (newest: step {step})")).unwrap_or_default();
        line("checkpoints", format!("{}{newest}", self.checkpoints));
        if let Some(curves) = &self.curves {
            line("curves", curves.clone());
        }
        self.next().iter().enumerate().for_each(|(index, text)| line(if index == 0 { "next" } else { "" }, text.clone()));
        out
    }

    /// What to try next.
    fn next(&self) -> Vec<String> {
        let run = &self.run;
        if self.outcome != "done" {
            return vec!["the same command again resumes the run".into()];
        }
        vec![
            format!("everstep export --run {run} --format timm -o trunk.safetensors"),
            format!("everstep eval linear --run {run} --train PATH --test PATH"),
        ]
    }

    /// For programs: one JSON object on one line.
    ///
    /// # Errors
    /// None that can happen with these fields.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// Below this share of the entropy of even use a model is likely to be collapsing. Collapsed runs of the quickstart's images show about 0.3, runs
/// that learn 0.75 and more: the images of one batch are few, and their classes fewer than the prototypes.
const COLLAPSING: f64 = 0.5;

const LABELS: [(&str, &str); 4] = [
    (names::KNN, "kNN, trained trunk"),
    (names::KNN_RANDOM, "kNN, random init"),
    (names::KNN_PIXELS, "kNN, raw pixels"),
    (names::KNN_COLOURS, "kNN, colour histogram"),
];

#[cfg(test)]
mod tests {
    use everstep_actors::protocol::ids::Step;

    use super::super::progress::tests::{at, evaluated, saved, step};
    use super::*;

    fn summary() -> Summary {
        let baselines = [(names::KNN, 20.0), (names::KNN_RANDOM, 26.8), (names::KNN_PIXELS, 24.0), (names::KNN_COLOURS, 30.0)];
        let ended = Event::Ended { step: Step(2), outcome: "done".into(), because: "all steps are committed".into() };
        let events =
            [evaluated(0, &baselines), step(0, 0, 4.6), step(1, 500, 4.0), saved(2), evaluated(2, &[(names::KNN, 45.5)]), at(1, ended)];
        Summary::new("runs/demo", 100, "runs/demo/checkpoints", Some("runs/demo/curves.svg"), &events)
    }

    #[test]
    fn the_report_says_what_was_learned_and_what_to_do() {
        let expected = "\
done                    2 steps; 256 images here in 1.0 s, 256 images/s
loss                    4.000 (-0.605 to ln K = 4.605)
kNN, trained trunk      45.5 %
kNN, random init        26.8 %  (trained +18.7)
kNN, raw pixels         24.0 %  (trained +21.5)
kNN, colour histogram   30.0 %  (trained +15.5)
prototypes in use       97.7 % of the entropy of even use
checkpoints             runs/demo/checkpoints (newest: step 2)
curves                  runs/demo/curves.svg
next                    everstep export --run runs/demo --format timm -o trunk.safetensors
                        everstep eval linear --run runs/demo --train PATH --test PATH
";
        assert_eq!(summary().text(), expected);
    }

    #[test]
    fn a_run_without_labels_or_steps_is_told_too() {
        let text = Summary::new("r", 100, "r/checkpoints", None, &[]).text();
        assert!(text.starts_with("running") && text.contains("the same command again resumes the run"), "{text}");
        assert!(!text.contains("kNN") && !text.contains("NaN"), "{text}");
    }

    #[test]
    fn a_collapse_is_called_by_its_name() {
        let used = |prototype_use| Summary { prototype_use: Some(prototype_use), ..summary() }.text();
        assert!(used(0.3).contains("30.0 % of the entropy of even use, low: the model may be collapsing"), "{}", used(0.3));
        assert!(!used(0.8).contains("low"), "{}", used(0.8));
    }

    #[test]
    fn the_json_holds_the_figures() {
        let value: serde_json::Value = serde_json::from_str(&summary().json().unwrap()).unwrap();
        assert_eq!(value["scores"][names::KNN], 45.5);
        assert_eq!(value["checkpoint"], 2);
        assert_eq!(value["curves"], "runs/demo/curves.svg");
    }
}
