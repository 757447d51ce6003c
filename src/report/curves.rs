//! The picture of a run: loss, kNN and pace over the steps, with checkpoints and incidents, as one self-contained SVG.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use everstep_actors::event::{Event, Recorded};

use super::names;
use panel::{Axis, Panel, escape};

mod panel;

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 164.0;
const TOP: f64 = 74.0;
const PANEL: f64 = 170.0;
const GAP: f64 = 62.0;
/// More points than this in a curve are averaged in groups.
const POINTS: usize = 600;
/// More incidents than this are counted, not drawn.
const INCIDENTS: usize = 200;

/// The colours follow the reader's light or dark setting. Plain colours, no CSS variables: many viewers do not know those.
const STYLE: &str = "\
text{font:12px system-ui,sans-serif;fill:#59636e}.title{font-size:18px;font-weight:600}.name{font-weight:600}.title,.name{fill:#1f2328}\
.paper{fill:#fff}.grid{stroke:#e4e7eb}.curve{fill:none;stroke-width:1.8;stroke-linejoin:round}\
.base{stroke:#59636e;stroke-dasharray:5 4;stroke-width:1.2}.saved{fill:#59636e}.bad{stroke:#cf222e;stroke-width:1.4;stroke-dasharray:2 3}\
.loss{stroke:#0969da}.knn{stroke:#1a7f37}.pace{stroke:#8250df}.fill-loss{fill:#0969da}.fill-knn{fill:#1a7f37}.fill-pace{fill:#8250df}\
@media(prefers-color-scheme:dark){text{fill:#9198a1}.title,.name{fill:#e6edf3}.paper{fill:#0d1117}.grid{stroke:#262c36}.base{stroke:#9198a1}\
.saved{fill:#9198a1}.bad{stroke:#ff7b72}.loss{stroke:#58a6ff}.knn{stroke:#3fb950}.pace{stroke:#bc8cff}\
.fill-loss{fill:#58a6ff}.fill-knn{fill:#3fb950}.fill-pace{fill:#bc8cff}}";

/// What the curves are drawn from, sorted by step; of a step that came twice the later event counts.
#[derive(Debug, Default)]
struct Story {
    loss: BTreeMap<u64, f64>,
    pace: BTreeMap<u64, f64>,
    knn: BTreeMap<u64, f64>,
    baselines: BTreeMap<&'static str, f64>,
    saved: BTreeMap<u64, ()>,
    incidents: Vec<(u64, String)>,
    began: bool,
    step: u64,
}

impl Story {
    fn new(events: &[Recorded]) -> Self {
        let mut story = Self::default();
        events.iter().for_each(|recorded| story.take_in(&recorded.event));
        story
    }

    fn take_in(&mut self, event: &Event) {
        match event {
            Event::StepCommitted { step, metrics, seconds, images, .. } => {
                self.step = step.0.saturating_add(1);
                if let Some(loss) = metrics.get(names::LOSS).filter(|loss| loss.is_finite()) {
                    self.loss.insert(self.step, *loss);
                }
                if seconds.is_finite() && *seconds > 0.0 {
                    self.pace.insert(self.step, *images as f64 / seconds);
                }
            }
            Event::Evaluated { step, scores } => {
                for (name, score) in scores.iter().filter(|(_, score)| score.is_finite()) {
                    if name == names::KNN {
                        self.knn.insert(step.0, *score);
                    } else if let Some((_, label)) = BASELINES.iter().find(|(baseline, _)| baseline == name) {
                        self.baselines.insert(label, *score);
                    }
                }
            }
            Event::CheckpointSaved { step, .. } => drop(self.saved.insert(step.0, ())),
            Event::CheckpointFailed { step, because } => self.incidents.push((step.0, format!("checkpoint failed: {because}"))),
            Event::NodeLost { node, rank, because, .. } => {
                let who = rank.map_or_else(|| node.to_string(), |rank| format!("rank {rank}"));
                self.incidents.push((self.step, format!("{who} lost: {because}")));
            }
            Event::StepSkipped { step, because } => self.incidents.push((step.0, format!("step skipped: {because}"))),
            Event::Hung { because, .. } | Event::NodeOdd { because, .. } => self.incidents.push((self.step, because.clone())),
            // The first beginning is no break, whatever the number of its epoch.
            Event::EpochBegan { .. } if !std::mem::replace(&mut self.began, true) => {}
            Event::EpochBegan { epoch, step, because, .. } => {
                self.incidents.push((step.0, format!("epoch {}: {because}", epoch.0)));
            }
            _ => {}
        }
    }
}

const BASELINES: [(&str, &str); 3] =
    [(names::KNN_RANDOM, "random init"), (names::KNN_PIXELS, "raw pixels"), (names::KNN_COLOURS, "colour histogram")];

/// Draws the run's curves. `total` is the number of steps of the whole run; `prototypes` gives ln K.
pub fn svg(title: &str, total: u64, prototypes: u32, events: &[Recorded]) -> String {
    let story = Story::new(events);
    let last = [story.step, *story.knn.keys().next_back().unwrap_or(&0), 1].into_iter().fold(total, u64::max);
    let x = Axis::new(0.0, last as f64, LEFT, WIDTH - RIGHT);
    let panels = panels(&story, prototypes, x);
    let bottom = TOP + panels.len() as f64 * (PANEL + GAP);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {h}\" role=\"img\"><title>{title}</title><style>{STYLE}</style>\
         <rect width=\"{WIDTH}\" height=\"{h}\" class=\"paper\"/><text class=\"title\" x=\"{LEFT}\" y=\"34\">{title}</text>",
        h = bottom - 12.0,
        title = escape(title),
    );
    panels.iter().for_each(|panel| panel.draw(&mut out));
    draw_marks(&mut out, &story, x, bottom - GAP);
    let _ = writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">step</text></svg>", (x.from + x.to) / 2.0, bottom - 26.0);
    out
}

fn panels(story: &Story, prototypes: u32, x: Axis) -> Vec<Panel> {
    let ln_k = f64::from(prototypes.max(1)).ln();
    let baselines = story.baselines.iter().map(|(label, score)| (format!("{label} {score:.1}"), *score)).collect();
    let all = [
        ("loss, nats", "loss", &story.loss, vec![(format!("ln K = {ln_k:.2}"), ln_k)], false, false),
        ("kNN, % correct", "knn", &story.knn, baselines, true, false),
        ("pace, images/s", "pace", &story.pace, Vec::new(), false, true),
    ];
    let shown = all.into_iter().filter(|(_, _, points, lines, ..)| !points.is_empty() || lines.len() > 1);
    let build = |(index, (name, class, points, lines, dots, from_zero)): (usize, (_, _, &BTreeMap<u64, f64>, _, _, _))| {
        let top = TOP + index as f64 * (PANEL + GAP);
        Panel::new(name, class, thin(points), lines, dots, from_zero, x, (top, top + PANEL))
    };
    shown.enumerate().map(build).collect()
}

/// Averages neighbours until at most [`POINTS`] points are left.
fn thin(points: &BTreeMap<u64, f64>) -> Vec<(f64, f64)> {
    let all: Vec<(f64, f64)> = points.iter().map(|(step, value)| (*step as f64, *value)).collect();
    let group = all.len().div_ceil(POINTS).max(1);
    let mean = |chunk: &[(f64, f64)]| {
        let sum = chunk.iter().fold((0.0, 0.0), |sum, point| (sum.0 + point.0, sum.1 + point.1));
        (sum.0 / chunk.len() as f64, sum.1 / chunk.len() as f64)
    };
    all.chunks(group).map(mean).collect()
}

/// Checkpoints as small triangles on the top edge, incidents as lines through all panels.
fn draw_marks(out: &mut String, story: &Story, x: Axis, bottom: f64) {
    for step in story.saved.keys() {
        let at = x.place(*step as f64);
        let (a, b, y) = (at - 4.0, at + 4.0, TOP - 8.0);
        let _ = write!(
            out,
            "<path class=\"saved\" d=\"M{a:.1} {y}H{b:.1}L{at:.1} {}Z\"><title>checkpoint of step {step}</title></path>",
            TOP - 2.0
        );
    }
    for (step, text) in story.incidents.iter().take(INCIDENTS) {
        let at = x.place(*step as f64);
        let _ = write!(out, "<path class=\"bad\" d=\"M{at:.1} {TOP}V{bottom}\"><title>step {step}: {}</title></path>", escape(text));
    }
    let more = story.incidents.len().saturating_sub(INCIDENTS);
    let more = if more > 0 { format!(" ({more} more not drawn)") } else { String::new() };
    let legend = match (story.saved.is_empty(), story.incidents.is_empty()) {
        (true, true) => return,
        (false, true) => "\u{25be} checkpoint".to_owned(),
        (true, false) => format!("\u{250a} incident{more}"),
        (false, false) => format!("\u{25be} checkpoint   \u{250a} incident{more}"),
    };
    let _ = write!(out, "<text x=\"{}\" y=\"34\" text-anchor=\"end\">{legend}</text>", x.to);
}

#[cfg(test)]
mod tests;
