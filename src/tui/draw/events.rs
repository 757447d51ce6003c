//! What happened, newest last; the list follows while the newest is selected.

use everstep_actors::event::words::Severity;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Wrap};

use super::{NARROW, moment_in, nothing, window};
use crate::report::tame;
use crate::tui::app::{App, Floor};
use crate::tui::happenings::Happening;
use crate::tui::theme::Theme;

pub(super) fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let shown = app.shown();
    let [head, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let follows = if app.event.is_none() { ", following" } else { "" };
    let older = app.digest.older || app.floor == Floor::All && app.digest.older_steps;
    let dropped = if older { ", older ones are not kept" } else { "" };
    frame.render_widget(Line::from(format!("{} events ({}){follows}{dropped}", shown.len(), app.floor.name())), head);
    if shown.is_empty() {
        return nothing(frame, "Nothing of this kind has happened.", theme, rest);
    }
    let [list, side] = Layout::vertical([Constraint::Min(0), Constraint::Length(if rest.height >= 10 { 4 } else { 0 })]).areas(rest);
    let at = app.event.unwrap_or(usize::MAX).min(shown.len() - 1);
    let lines: Vec<Line<'_>> =
        window(at, shown.len(), list.height).map(|number| line(shown[number], number == at, theme, list.width)).collect();
    frame.render_widget(Paragraph::new(lines), list);
    if side.height > 0 {
        let chosen = shown[at];
        let title = format!(" {} by {} ", chosen.name, chosen.by);
        let block = Block::new().borders(Borders::TOP).title(tame(&title)).border_style(theme.quiet());
        frame.render_widget(Paragraph::new(tame(&chosen.text)).block(block).wrap(Wrap { trim: true }), side);
    }
}

fn line(happening: &Happening, selected: bool, theme: Theme, width: u16) -> Line<'static> {
    let mark = match happening.severity {
        Severity::Info => ' ',
        Severity::Warning => 'W',
        Severity::Error => 'E',
    };
    let style = if selected { theme.selected() } else { theme.severity(happening.severity) };
    let name = if width < NARROW { String::new() } else { format!("{:<17} ", tame(&happening.name)) };
    let text = format!("{} {mark} {name}{}", moment_in(happening.at_ms, width), tame(&happening.text));
    Line::from(Span::styled(text, style))
}
