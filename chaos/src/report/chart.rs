//! Charts of a run over its time, as inline SVG: lines that step, and bars for faults. All share one width, and stretch with the
//! page.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use crate::history::{Happening, History};

/// Units across.
const WIDE: f64 = 1_000.0;
/// Units of a line chart up.
const HIGH: f64 = 100.0;
/// Units of a fault's row.
const ROW: f64 = 14.0;
/// Columns of the step rate.
const COLUMNS: usize = 100;
/// What happens at once is drawn this wide at least.
const THIN: f64 = 4.0;

/// A series of values over time.
pub(super) type Series = Vec<(Duration, f64)>;

/// What charts show of a history.
pub(super) struct Curves {
    /// Nodes that live.
    pub(super) living: Series,
    /// Members of the newest epoch.
    pub(super) members: Series,
    /// The newest epoch.
    pub(super) epoch: Series,
    /// Steps that are committed.
    pub(super) steps: Series,
    /// Steps that became stable, a second.
    pub(super) rate: Series,
    /// From when to when each strike of each fault was at work.
    pub(super) strikes: Vec<Vec<(Duration, Duration)>>,
    /// When properties were broken first.
    pub(super) broken: Vec<Duration>,
    /// The whole time.
    pub(super) took: Duration,
}

impl Curves {
    pub(super) fn of(history: &History, faults: usize, broken: Vec<Duration>) -> Self {
        let took = history.entries.iter().map(|entry| entry.at).max().unwrap_or_default().max(Duration::from_millis(1));
        let mut alive = BTreeSet::new();
        let mut curves = Self {
            living: Series::new(),
            members: Series::new(),
            epoch: Series::new(),
            steps: Series::new(),
            rate: rate(history, took),
            strikes: strikes(history, faults, took),
            broken,
            took,
        };
        for entry in &history.entries {
            let (at, who) = (entry.at, entry.who);
            match &entry.what {
                Happening::Started { .. } | Happening::Died | Happening::Ended { .. } => {
                    let _ = if matches!(entry.what, Happening::Started { .. }) { alive.insert(who) } else { alive.remove(&who) };
                    curves.living.push((at, alive.len() as f64));
                }
                Happening::Recorded { epoch, members, .. } => {
                    curves.members.push((at, members.len() as f64));
                    curves.epoch.push((at, *epoch as f64));
                }
                Happening::Begun { step, .. } => curves.steps.push((at, *step as f64)),
                Happening::Stable { step, .. } => curves.steps.push((at, (step + 1) as f64)),
                _ => {}
            }
        }
        curves
    }

    fn across(&self, at: Duration) -> f64 {
        at.as_secs_f64() / self.took.as_secs_f64() * WIDE
    }

    /// A chart with lines, each with its class.
    pub(super) fn lines(&self, lines: &[(&Series, &str)]) -> String {
        let top = most(lines.iter().flat_map(|(series, _)| series.iter()));
        let mut svg = format!("<svg viewBox=\"0 0 {WIDE} {HIGH}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
        for (series, class) in lines {
            let _ = write!(svg, "<path class=\"{class}\" d=\"{}\"/>", self.steps_of(series, top));
        }
        self.marks(&mut svg, HIGH);
        svg + "</svg>"
    }

    /// A path that goes level from one value to the next. What lies within one unit is drawn once.
    fn steps_of(&self, series: &Series, top: f64) -> String {
        let mut path = String::new();
        let mut last: Option<(i64, i64)> = None;
        for (at, value) in series {
            let (x, y) = (self.across(*at), HIGH - 2.0 - value / top * (HIGH - 6.0));
            let here = ((x * 2.0) as i64, (y * 4.0) as i64);
            if last == Some(here) {
                continue;
            }
            let _ = if last.is_none() { write!(path, "M{x:.1} {y:.1}") } else { write!(path, "H{x:.1}V{y:.1}") };
            last = Some(here);
        }
        if last.is_some() {
            let _ = write!(path, "H{WIDE}");
        }
        path
    }

    /// The strikes of one fault.
    pub(super) fn bars(&self, fault: usize) -> String {
        let mut svg = format!("<svg class=\"row\" viewBox=\"0 0 {WIDE} {ROW}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">");
        let mut drawn = (-1, -1);
        for (from, to) in self.strikes.get(fault).into_iter().flatten() {
            let (x, wide) = (self.across(*from), (self.across(*to) - self.across(*from)).max(THIN));
            let here = (x as i64, (x + wide) as i64);
            if here != drawn {
                let _ = write!(svg, "<rect class=\"bar\" x=\"{x:.1}\" y=\"2\" width=\"{wide:.1}\" height=\"{}\"/>", ROW - 4.0);
                drawn = here;
            }
        }
        self.marks(&mut svg, ROW);
        svg + "</svg>"
    }

    fn marks(&self, svg: &mut String, high: f64) {
        let mut drawn = -1;
        for at in &self.broken {
            let x = self.across(*at);
            if x as i64 != drawn {
                let _ = write!(svg, "<path class=\"broken\" d=\"M{x:.1} 0V{high}\"/>");
                drawn = x as i64;
            }
        }
    }
}

/// The largest value, at least 1.
pub(super) fn most<'a>(values: impl Iterator<Item = &'a (Duration, f64)>) -> f64 {
    values.map(|(_, value)| *value).fold(1.0, f64::max)
}

fn rate(history: &History, took: Duration) -> Series {
    let wide = took / COLUMNS as u32;
    let mut columns = vec![0u32; COLUMNS];
    for (place, ..) in history.stable() {
        let column = (history.entries[place].at.as_secs_f64() / wide.as_secs_f64().max(1e-9)) as usize;
        columns[column.min(COLUMNS - 1)] += 1;
    }
    columns.into_iter().zip(0u32..).map(|(count, column)| (wide * column, f64::from(count) / wide.as_secs_f64().max(1e-9))).collect()
}

fn strikes(history: &History, faults: usize, took: Duration) -> Vec<Vec<(Duration, Duration)>> {
    let mut all: Vec<Vec<(u32, Duration, Duration)>> = vec![Vec::new(); faults];
    let mut ends = std::collections::BTreeMap::new();
    let lasting = history.entries.iter().filter_map(|entry| match entry.what {
        Happening::Passed { strike } => Some((strike, entry.at)),
        _ => None,
    });
    ends.extend(lasting);
    for entry in &history.entries {
        if let Happening::Struck { fault, strike, .. } = &entry.what
            && let Some(row) = all.get_mut(*fault)
        {
            row.push((*strike, entry.at, ends.get(strike).copied().unwrap_or(entry.at).min(took)));
        }
    }
    all.into_iter().map(|row| row.into_iter().map(|(_, from, to)| (from, to)).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Kind;

    #[test]
    fn curves_follow_the_history() {
        let mut history = History::default();
        let mut at = |s: u64, who: u32, what: Happening| history.push(Duration::from_secs(s), who, what);
        (0..3).for_each(|who| at(0, who, Happening::Started { slot: who }));
        at(1, 0, Happening::Recorded { epoch: 1, nonce: String::new(), leader: 0, members: vec![0, 1, 2] });
        at(4, 0, Happening::Struck { fault: 0, strike: 0, kind: Kind::Stop, targets: vec![2] });
        at(5, 2, Happening::Died);
        at(6, 0, Happening::Passed { strike: 0 });
        at(10, 0, Happening::Calm);
        let curves = Curves::of(&history, 2, vec![Duration::from_secs(5)]);
        assert_eq!(curves.living.last(), Some(&(Duration::from_secs(5), 2.0)));
        assert_eq!(curves.strikes, [vec![(Duration::from_secs(4), Duration::from_secs(6))], vec![]]);
        assert!(curves.lines(&[(&curves.living, "a")]).contains("H500.0V"));
        let bars = curves.bars(0);
        assert!(bars.contains("x=\"400.0\"") && bars.contains("width=\"200.0\"") && bars.contains("M500.0 0V14"), "{bars}");
        assert!(!curves.bars(1).contains("rect"));
    }
}
