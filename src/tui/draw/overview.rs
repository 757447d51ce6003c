//! The first page: what the run does, how far it is, how it got there.

use everstep_actors::desk::view::RunView;
use everstep_actors::event::words::Severity;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, LineGauge, Paragraph, Wrap};

use super::{framed, moment, nothing, pair};
use crate::report::{bytes, duration, names, tame};
use crate::tui::app::App;
use crate::tui::theme::Theme;

/// The phases of a step, their letters in the bar, and their colours.
const PHASES: [(&str, char, Color); 5] = [
    ("data", 'd', Color::Blue),
    ("compute", 'c', Color::Green),
    ("exchange", 'x', Color::Yellow),
    ("update", 'u', Color::Cyan),
    ("vote", 'v', Color::Magenta),
];
/// Rows that plots need to tell anything.
const PLOT_LEAST: u16 = 6;
/// Rows beyond which they tell no more.
const PLOT_MOST: u16 = 18;

pub(super) fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let Some((item, run)) = app.sight.run() else {
        return nothing(frame, "Nothing is known of the run yet: the question is on its way.", theme, area);
    };
    // The reason may take a second line, where there is room for it.
    let reason = u16::from(run.waiting.is_some()) * (1 + u16::from(area.height >= 12));
    let warnings = warnings(app, theme, usize::from(area.height / 6).clamp(2, 8));
    let spare = area.height.saturating_sub(1 + reason + 1 + 3 + warnings.len() as u16);
    let plots = if spare >= PLOT_LEAST { spare.min(PLOT_MOST) } else { 0 };
    let rows = [Constraint::Length(1), Constraint::Length(reason), Constraint::Length(1), Constraint::Length(plots), Constraint::Min(0)];
    let [state, why, gauge, curves, rest] = Layout::vertical(rows).areas(area);
    frame.render_widget(state_line(item, run, theme), state);
    if let Some(waiting) = &run.waiting {
        let because = Line::from(vec![Span::styled("waits: ", theme.state("waiting")), Span::raw(tame(waiting))]);
        frame.render_widget(Paragraph::new(because).wrap(Wrap { trim: true }), why);
    }
    draw_gauge(frame, app, run, theme, gauge);
    if plots > 0 {
        draw_curves(frame, app, theme, curves);
    }
    let mut lines = phases(run, theme, rest.width);
    lines.push(checkpoint(app, run, theme));
    lines.extend(warnings);
    frame.render_widget(Paragraph::new(lines), rest);
}

fn state_line(item: &everstep_actors::desk::view::Item, run: &RunView, theme: Theme) -> Line<'static> {
    let mut spans = vec![Span::styled(tame(&item.state), theme.state(&item.state))];
    if item.since_ms > 0 {
        spans.push(Span::raw(format!(" for {}", duration(item.as_of_ms.saturating_sub(item.since_ms) as f64 / 1e3))));
    }
    let leader = if run.leader.is_empty() { "no leader".to_owned() } else { format!("led by {}", tame(&run.leader)) };
    let because = if run.epoch_because.is_empty() { String::new() } else { format!(": {}", tame(&run.epoch_because)) };
    spans.push(Span::raw(format!(", epoch {}, {leader}{because}", run.epoch)));
    Line::from(spans)
}

fn draw_gauge(frame: &mut Frame<'_>, app: &App, run: &RunView, theme: Theme, area: Rect) {
    let ratio = if run.steps > 0 { (run.step as f64 / run.steps as f64).clamp(0.0, 1.0) } else { 0.0 };
    let left = remaining(app, run).map(|seconds| format!(", {} left", duration(seconds))).unwrap_or_default();
    let label = format!("{:.1} % of {} steps{left}", ratio * 100.0, run.steps);
    let gauge = LineGauge::default().ratio(ratio).label(label).filled_style(theme.state("training"));
    // Told apart by their shapes, not by colour alone.
    let gauge = if theme.ascii { gauge.filled_symbol("#").unfilled_symbol("-") } else { gauge.filled_symbol("█").unfilled_symbol("░") };
    frame.render_widget(gauge, area);
}

/// Seconds to the end at the pace of the newest steps.
fn remaining(app: &App, run: &RunView) -> Option<f64> {
    let points = app.digest.history.points();
    let recent = &points[points.len().saturating_sub(32)..];
    let (first, last) = (recent.first()?, recent.last()?);
    let steps = last.step.checked_sub(first.step).filter(|steps| *steps > 0)?;
    let per_step = last.at_ms.checked_sub(first.at_ms)? as f64 / 1e3 / steps as f64;
    (run.steps > run.step && run.waiting.is_none()).then(|| per_step * (run.steps - run.step) as f64)
}

fn draw_curves(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let points = app.digest.history.points();
    let loss: Vec<_> = points.iter().filter_map(|point| Some((point.step as f64, point.loss.filter(|loss| loss.is_finite())?))).collect();
    let pace: Vec<_> = points.iter().map(|point| (point.step as f64, point.images_per_s)).collect();
    let [left, right] = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]).areas(area);
    let last = |points: &[(f64, f64)]| points.last().map(|(_, value)| *value);
    let told = last(&loss).map_or_else(|| " loss ".to_owned(), |loss| format!(" loss {loss:.4} "));
    draw_curve(frame, told, &loss, false, theme, left);
    let told = last(&pace).map_or_else(|| " images/s ".to_owned(), |pace| format!(" {pace:.0} images/s "));
    draw_curve(frame, told, &pace, true, theme, right);
}

fn draw_curve(frame: &mut Frame<'_>, title: String, points: &[(f64, f64)], from_zero: bool, theme: Theme, area: Rect) {
    let block = framed(title, theme);
    let averaged = averaged(points, usize::from(area.width) * 2);
    let points = averaged.as_slice();
    let [first, .., end] = points else {
        let inner = block.inner(area);
        frame.render_widget(block, area);
        return nothing(frame, "two steps make a curve", theme, inner);
    };
    let (mut low, mut high) = points.iter().fold((f64::MAX, f64::MIN), |(low, high), (_, y)| (low.min(*y), high.max(*y)));
    if from_zero {
        low = 0.0;
    }
    if high - low < 1e-9 {
        high = low + 1.0;
    }
    let (x, labels) = ([first.0, end.0], [number(first.0), format!("step {}", number(end.0))]);
    let marker = if theme.ascii { Marker::Dot } else { Marker::Braille };
    let data = Dataset::default().data(points).marker(marker).graph_type(GraphType::Line).style(theme.curve());
    let chart = Chart::new(vec![data])
        .block(block)
        .x_axis(Axis::default().bounds(x).labels(labels).style(theme.quiet()))
        .y_axis(Axis::default().bounds([low, high]).labels([number(low), number(high)]).style(theme.quiet()));
    frame.render_widget(chart, area);
}

/// At most so many points, each the mean of its neighbours: a curve that goes to and fro within one column tells nothing.
fn averaged(points: &[(f64, f64)], most: usize) -> Vec<(f64, f64)> {
    let size = points.len().div_ceil(most.max(2)).max(1);
    let mean = |part: &[(f64, f64)]| (part[part.len() - 1].0, part.iter().map(|(_, y)| y).sum::<f64>() / part.len() as f64);
    points.chunks(size).map(mean).collect()
}

/// A number in few characters.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.1}M", value / 1e6),
        size if size >= 1e4 => format!("{:.1}k", value / 1e3),
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Where the seconds of a step go: a line of words and a bar of letters.
fn phases(run: &RunView, theme: Theme, width: u16) -> Vec<Line<'static>> {
    let total: f64 = run.phases.values().sum();
    if total <= 0.0 {
        return vec![pair("a step", "no step was timed yet".into(), theme), Line::default()];
    }
    let share = |name: &str| run.phases.get(name).copied().unwrap_or_default() / total;
    let told: Vec<String> = PHASES.iter().map(|(name, ..)| format!("{name} {:.0}%", share(name) * 100.0)).collect();
    let mut bar = Vec::new();
    let (mut drawn, mut until) = (0, 0.0);
    for (name, letter, colour) in PHASES {
        until += share(name) * f64::from(width);
        let cells = (until.round() as usize).saturating_sub(drawn);
        drawn += cells;
        let style = if theme.colour { Style::new().fg(Color::Black).bg(colour) } else { Style::new() };
        bar.push(Span::styled(letter.to_string().repeat(cells), style));
    }
    vec![pair("a step", format!("{}  {}", duration(total), told.join("  ")), theme), Line::from(bar)]
}

fn checkpoint(app: &App, run: &RunView, theme: Theme) -> Line<'static> {
    let told = match (app.sight.checkpoint(), run.checkpoint) {
        (Some((item, checkpoint)), _) => {
            let age = match item.since_ms {
                0 => String::new(),
                since => format!(", {} old", duration(app.sight.as_of_ms.saturating_sub(since) as f64 / 1e3)),
            };
            format!("step {}, {}, {}{age}", checkpoint.step, item.state, bytes(checkpoint.bytes))
        }
        (None, Some(step)) => format!("step {step}"),
        (None, None) => "none yet".into(),
    };
    let entropy = run.metrics.get(names::ENTROPY).map(|entropy| format!("   entropy {entropy:.3}")).unwrap_or_default();
    pair("checkpoint", format!("{told}{entropy}"), theme)
}

/// The newest warnings, newest first.
fn warnings(app: &App, theme: Theme, most: usize) -> Vec<Line<'static>> {
    let newest = app.digest.happenings.iter().rev().filter(|happening| happening.severity >= Severity::Warning);
    let lines: Vec<_> = newest
        .take(most)
        .map(|happening| {
            let text = format!("{} {}", moment(happening.at_ms), tame(&happening.text));
            Line::from(Span::styled(text, theme.severity(happening.severity)))
        })
        .collect();
    if lines.is_empty() { vec![Line::from(Span::styled("no warnings", theme.quiet()))] } else { lines }
}
