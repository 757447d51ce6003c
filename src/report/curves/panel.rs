//! One pair of axes with a curve and lines to compare it with.

use std::fmt::Write as _;

/// From values to places on the page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    /// Where `low` lies.
    pub(super) from: f64,
    /// Where `high` lies.
    pub(super) to: f64,
}

impl Axis {
    /// `low..=high` lies on `from..=to`; an empty range is widened.
    pub(super) fn new(low: f64, high: f64, from: f64, to: f64) -> Self {
        let high = if high - low > 1e-9 { high } else { low + 1.0 };
        Self { low, high, from, to }
    }

    pub(super) fn place(&self, value: f64) -> f64 {
        self.from + (value - self.low) / (self.high - self.low) * (self.to - self.from)
    }

    /// About five round values within the range.
    fn ticks(&self) -> Vec<f64> {
        let rough = (self.high - self.low) / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|step| *step >= rough * 0.999).unwrap_or(rough);
        let first = (self.low / step - 1e-9).ceil();
        (0..12).map(|i| (first + f64::from(i)) * step).take_while(|tick| *tick <= self.high + 1e-9 * step).collect()
    }
}

/// Text that is safe within SVG.
pub(super) fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // XML forbids most control characters and the two last of the basic plane.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => safe.push(' '),
            c => safe.push(c),
        }
    }
    safe
}

/// A number with no more digits than a tick needs.
fn number(value: f64) -> String {
    if value.abs() >= 1000.0 && value.fract() == 0.0 {
        return format!("{value:.0}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One pair of axes.
#[derive(Debug)]
pub(super) struct Panel {
    name: &'static str,
    class: &'static str,
    points: Vec<(f64, f64)>,
    lines: Vec<(String, f64)>,
    dots: bool,
    x: Axis,
    y: Axis,
}

impl Panel {
    /// `span` is the top and bottom of the plot.
    #[expect(clippy::too_many_arguments, reason = "a plain constructor with one caller")]
    pub(super) fn new(
        name: &'static str,
        class: &'static str,
        points: Vec<(f64, f64)>,
        lines: Vec<(String, f64)>,
        dots: bool,
        from_zero: bool,
        x: Axis,
        span: (f64, f64),
    ) -> Self {
        let values = || points.iter().map(|point| point.1).chain(lines.iter().map(|line| line.1));
        let high = values().fold(f64::NEG_INFINITY, f64::max);
        let low = if from_zero { 0.0 } else { values().fold(f64::INFINITY, f64::min) };
        let margin = 0.08 * (high - low).max(1e-3 * high.abs()).max(1e-6);
        let low = if from_zero { 0.0 } else { low - margin };
        let y = Axis::new(low, high + margin, span.1, span.0);
        Self { name, class, points, lines, dots, x, y }
    }

    /// Appends the panel to the picture.
    pub(super) fn draw(&self, out: &mut String) {
        let (x, y) = (self.x, self.y);
        for tick in y.ticks() {
            let at = y.place(tick);
            let _ = write!(out, "<path class=\"grid\" d=\"M{} {at:.1}H{}\"/>", x.from, x.to);
            let _ = write!(out, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>", x.from - 8.0, at + 4.0, number(tick));
        }
        for tick in x.ticks() {
            let at = x.place(tick);
            let _ = write!(out, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>", y.from + 17.0, number(tick));
        }
        self.draw_curve(out);
        self.draw_labels(out);
    }

    fn draw_curve(&self, out: &mut String) {
        let places: Vec<(f64, f64)> = self.points.iter().map(|(step, value)| (self.x.place(*step), self.y.place(*value))).collect();
        let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        if path.len() > 1 {
            let _ = write!(out, "<path class=\"curve {}\" d=\"M{}\"/>", self.class, path.join("L"));
        }
        if self.dots || places.len() == 1 {
            for ((x, y), (step, value)) in places.iter().zip(&self.points) {
                let _ = write!(
                    out,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" class=\"fill-{}\"><title>step {step}: {value:.2}</title></circle>",
                    self.class
                );
            }
        }
    }

    /// The panel's name, the lines to compare with, and values at the right edge, moved apart where they would overlap.
    fn draw_labels(&self, out: &mut String) {
        let _ = write!(out, "<text class=\"name\" x=\"{}\" y=\"{}\">{}</text>", self.x.from, self.y.to - 14.0, self.name);
        let mut labels: Vec<(f64, String, String)> = Vec::new();
        for (label, value) in &self.lines {
            let at = self.y.place(*value);
            let _ = write!(out, "<path class=\"base\" d=\"M{} {at:.1}H{}\"/>", self.x.from, self.x.to);
            labels.push((at, escape(label), "label".into()));
        }
        if let Some((_, value)) = self.points.last() {
            labels.push((
                self.y.place(*value),
                if *value >= 100.0 { format!("{value:.0} now") } else { format!("{value:.2} now") },
                format!("fill-{}", self.class),
            ));
        }
        labels.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut above = f64::NEG_INFINITY;
        for (at, label, class) in labels {
            above = at.max(above + 15.0);
            let _ = write!(out, "<text x=\"{}\" y=\"{:.1}\" class=\"{class}\">{label}</text>", self.x.to + 8.0, above + 4.0);
        }
    }
}
