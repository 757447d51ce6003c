//! What `everstep status` shows.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{duration, tame};

/// A run at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Where the run lives.
    pub run: String,
    /// The current epoch.
    pub epoch: u64,
    /// Why it began.
    pub epoch_because: String,
    /// The leader, as shown to people.
    pub leader: String,
    /// Steps committed.
    pub step: u64,
    /// Steps of the run; 0 where that is not known.
    pub steps: u64,
    /// Seconds since the last commit.
    pub since_seconds: f64,
    /// Pace, if a step was committed in this epoch.
    pub images_per_second: Option<f64>,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// Who is in.
    pub members: Vec<MemberView>,
    /// The newest checkpoint.
    pub checkpoint: Option<CheckpointView>,
    /// Why the run waits; `None` while it trains.
    pub waiting: Option<String>,
}

/// A member of the epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MemberView {
    /// Who, as shown to people.
    pub node: String,
    /// Its rank in the plan.
    pub rank: u32,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// Its lanes, first and one past the last.
    pub lanes: (u32, u32),
    /// What it does (`training`, `joining`, `silent for 2 s`, …).
    pub state: String,
}

/// A checkpoint that can be relied on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckpointView {
    /// Steps committed when it was taken.
    pub step: u64,
    /// Seconds since its manifest was published, where that is known.
    pub age_seconds: Option<f64>,
}

impl CheckpointView {
    fn text(&self) -> String {
        let age = self.age_seconds.map(|seconds| format!(", {} ago", duration(seconds)));
        format!("step {}{}", self.step, age.unwrap_or_default())
    }
}

impl StatusView {
    /// For people: a few lines and a table, with a line break at the end.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, text: String| {
            let _ = writeln!(out, "{name:<11}{}", tame(&text));
        };
        line("run", self.run.clone());
        let of = if self.steps > 0 { format!(" of {} ({:.0} %)", self.steps, self.percent()) } else { String::new() };
        line("step", format!("{}{of}, last commit {} ago", self.step, duration(self.since_seconds)));
        if let Some(because) = &self.waiting {
            line("waiting", because.clone());
        }
        if let Some(pace) = self.images_per_second {
            line("pace", format!("{pace:.0} images/s"));
        }
        if let Some(loss) = self.loss {
            line("loss", format!("{loss:.3}"));
        }
        line("epoch", format!("{}, led by {}: {}", self.epoch, self.leader, self.epoch_because));
        line("checkpoint", self.checkpoint.as_ref().map_or_else(|| "none yet".into(), CheckpointView::text));
        let mut rows = vec![["RANK", "NODE", "HOST", "PID", "LANES", "STATE"].map(str::to_owned)];
        rows.extend(self.members.iter().map(|m| {
            let lanes = format!("{}..{}", m.lanes.0, m.lanes.1);
            [m.rank.to_string(), tame(&m.node), tame(&m.host), m.pid.to_string(), lanes, tame(&m.state)]
        }));
        out + "\n" + &table(&rows)
    }

    /// For programs: one JSON object on one line.
    ///
    /// # Errors
    /// None that can happen with these fields.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    fn percent(&self) -> f64 {
        100.0 * self.step as f64 / self.steps.max(1) as f64
    }
}

/// Rows in columns of equal width, no space at the ends of lines.
pub(crate) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(out, "{}", cells.join("  ").trim_end());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> StatusView {
        let member = |rank: u32, state: &str| MemberView {
            node: format!("n0{rank}"),
            rank,
            host: "box".into(),
            pid: 100 + rank,
            lanes: (2 * rank, 2 * rank + 2),
            state: state.into(),
        };
        StatusView {
            run: "runs/demo".into(),
            epoch: 3,
            epoch_because: "rank 2 was lost".into(),
            leader: "n00".into(),
            step: 50,
            steps: 400,
            since_seconds: 1.5,
            images_per_second: Some(431.4),
            loss: Some(4.1),
            members: vec![member(0, "training"), member(1, "silent\x1b[31m")],
            checkpoint: Some(CheckpointView { step: 40, age_seconds: Some(75.0) }),
            waiting: None,
        }
    }

    #[test]
    fn the_text_is_a_table_that_lines_up() {
        let expected = "\
run        runs/demo
step       50 of 400 (12 %), last commit 1.5 s ago
pace       431 images/s
loss       4.100
epoch      3, led by n00: rank 2 was lost
checkpoint step 40, 1 min 15 s ago

RANK  NODE  HOST  PID  LANES  STATE
0     n00   box   100  0..2   training
1     n01   box   101  2..4   silent [31m
";
        assert_eq!(view().text(), expected);
    }

    #[test]
    fn a_run_that_waits_says_why() {
        let waits = StatusView { waiting: Some("1 of 2 ranks has joined".into()), images_per_second: None, checkpoint: None, ..view() };
        let text = waits.text();
        assert!(text.contains("waiting    1 of 2 ranks has joined\n") && text.contains("checkpoint none yet\n"), "{text}");
        assert!(!text.contains("pace"), "{text}");
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let checkpoint = Some(CheckpointView { step: 40, age_seconds: None });
        let text = StatusView { steps: 0, checkpoint, ..view() }.text();
        assert!(text.contains("step       50, last commit 1.5 s ago\n") && text.contains("checkpoint step 40\n"), "{text}");
    }

    #[test]
    fn the_json_reads_back() {
        let text = view().json().unwrap();
        assert!(!text.contains('\n'));
        assert_eq!(serde_json::from_str::<StatusView>(&text).unwrap(), view());
    }
}
