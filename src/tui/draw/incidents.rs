//! When nothing was computed: a bar over the time of the run, and each incident with its cause.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Wrap};

use super::{NARROW, moment, moment_in, nothing, window};
use crate::judge::incidents::Incident;
use crate::report::{duration, tame};
use crate::tui::app::App;
use crate::tui::theme::Theme;

pub(super) fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let incidents = &app.digest.incidents;
    let Some((began_ms, last_ms)) = app.digest.known_ms else {
        return nothing(frame, "Nothing durable is known of the run yet.", theme, area);
    };
    // The time of the run goes on to this moment, unless it has ended.
    let ended = app.sight.run().is_some_and(|(item, _)| item.state == "ended");
    let now_ms = if ended { last_ms } else { app.sight.as_of_ms.max(last_ms) };
    let [head, bar, rest] = Layout::vertical([Constraint::Length(1), Constraint::Length(2), Constraint::Min(0)]).areas(area);
    let whole = now_ms.saturating_sub(began_ms).max(1) as f64 / 1e3;
    let stalled: f64 = incidents.iter().map(|incident| stalled(incident, now_ms)).sum();
    let share = stalled / whole * 100.0;
    let told = format!("{} incidents stalled {} of {} ({share:.1} %)", incidents.len(), duration(stalled), duration(whole));
    frame.render_widget(Line::from(told), head);
    if incidents.is_empty() {
        return nothing(frame, "No incident: steps were committed without a stop.", theme, rest);
    }
    let at = app.incident.unwrap_or(usize::MAX).min(incidents.len() - 1);
    frame.render_widget(Paragraph::new(timeline(incidents, (began_ms, now_ms), at, bar.width, theme)), bar);
    let [list, side] = Layout::vertical([Constraint::Min(0), Constraint::Length(if rest.height >= 9 { 5 } else { 0 })]).areas(rest);
    let lines: Vec<Line<'_>> =
        window(at, incidents.len(), list.height).map(|row| line(&incidents[row], now_ms, row == at, theme, list.width)).collect();
    frame.render_widget(Paragraph::new(lines), list);
    if side.height > 0 {
        let chosen = &incidents[at];
        let block = Block::new().borders(Borders::TOP).title(format!(" incident {} ", chosen.number)).border_style(theme.quiet());
        let until = chosen.end_ms.map_or_else(|| "now".to_owned(), moment);
        let nodes = if chosen.nodes.is_empty() { String::new() } else { format!(", about {}", chosen.nodes.join(" ")) };
        let more =
            format!("{} to {until} UTC, events: {}, steps redone: {}{nodes}", moment(chosen.start_ms), chosen.events, chosen.steps_redone);
        let lines = vec![Line::from(tame(&chosen.cause)), Line::from(tame(&more))];
        frame.render_widget(Paragraph::new(lines).block(block).wrap(Wrap { trim: true }), side);
    }
}

/// Seconds that it cost; one that goes on costs more with every second, unless steps are committed through it.
fn stalled(incident: &Incident, now_ms: u64) -> f64 {
    match incident.end_ms {
        Some(_) => incident.stalled_s,
        None if incident.stalled_s > 0.0 => incident.stalled_s.max(now_ms.saturating_sub(incident.start_ms) as f64 / 1e3),
        None => 0.0,
    }
}

/// A cell for a stretch of time: `#` where most of it was lost, `+` where some, `.` where none; the selected one is reversed.
fn timeline(incidents: &[Incident], (began_ms, now_ms): (u64, u64), at: usize, width: u16, theme: Theme) -> Vec<Line<'static>> {
    let width = u64::from(width.max(1));
    let span = now_ms.saturating_sub(began_ms).max(1);
    let edge = |cell: u64| began_ms + (u128::from(span) * u128::from(cell) / u128::from(width)) as u64;
    let cells = (0..width).map(|cell| {
        let (from, until) = (edge(cell), edge(cell + 1).max(edge(cell) + 1));
        let within = |incident: &Incident| {
            incident.end_ms.unwrap_or(now_ms).max(incident.start_ms + 1).min(until).saturating_sub(incident.start_ms.max(from))
        };
        let lost: u64 = incidents.iter().filter(|incident| incident.stalled_s > 0.0).map(within).sum();
        let (symbol, state) = match lost {
            0 if incidents.iter().any(|incident| within(incident) > 0) => ('o', "behind"),
            0 => ('.', "in"),
            lost if lost * 2 >= until - from => ('#', "silent"),
            _ => ('+', "waiting"),
        };
        let style = if within(&incidents[at]) > 0 { theme.state(state).patch(theme.selected()) } else { theme.state(state) };
        Span::styled(symbol.to_string(), style)
    });
    let (left, right) = (moment(began_ms), moment(now_ms));
    let gap = (width as usize).saturating_sub(left.len() + right.len());
    vec![Line::from_iter(cells), Line::from(Span::styled(format!("{left}{}{right}", " ".repeat(gap)), theme.quiet()))]
}

fn line(incident: &Incident, now_ms: u64, selected: bool, theme: Theme, width: u16) -> Line<'static> {
    let lasts = if incident.end_ms.is_none() { " so far" } else { "" };
    let stalled = format!("{}{lasts}", duration(stalled(incident, now_ms)));
    let redone = match incident.steps_redone {
        0 => String::new(),
        steps if width < NARROW => format!("{steps}x "),
        steps => format!("{steps} steps redone: "),
    };
    let (number, from, kind) = (incident.number, moment_in(incident.start_ms, width), incident.kind.name());
    let text = format!("{number:>3} {from} {stalled:>13} {kind:<10} {redone}{}", tame(&incident.cause));
    let style = if incident.end_ms.is_none() { theme.state("silent") } else { Style::new() };
    Line::from(Span::styled(text, if selected { theme.selected() } else { style }))
}
