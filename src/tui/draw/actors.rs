//! The table of actors: who has work piling up, and who is at what since when.

use everstep_actors::desk::view::{ActorView, Item};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Wrap};

use super::{NARROW, detail, nothing, window};
use crate::report::tame;
use crate::tui::app::App;
use crate::tui::ask::FAILED;
use crate::tui::theme::Theme;
use crate::views::human::{elide, span};

/// The selected actor in full.
const DETAIL_ROWS: u16 = 8;

pub(super) fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let rows = app.actors.rows(&app.sight);
    let [head, rest] = Layout::vertical([Constraint::Length(1), Constraint::Min(0)]).areas(area);
    let filter = if app.actors.filter.is_empty() { String::new() } else { format!(", with `{}`", tame(&app.actors.filter)) };
    let known = rows.len() as u64;
    let cut = match app.sight.actors_matched {
        None => format!("so far {known}"),
        Some(matched) if matched > known => format!("the first {known} of {matched}"),
        Some(_) => known.to_string(),
    };
    frame.render_widget(Line::from(format!("{cut} actors by {}{filter}", app.actors.sort.name())), head);
    if rows.is_empty() {
        return nothing(frame, "No actor matches.", theme, rest);
    }
    let below = if rest.height >= 14 { DETAIL_ROWS } else { 0 };
    let [table, side] = Layout::vertical([Constraint::Min(0), Constraint::Length(below)]).areas(rest);
    let at = app.actors.at(&rows);
    let wide = if table.width < NARROW { 20 } else { usize::from(table.width - 57).clamp(22, 40) };
    // The columns in the back are cut off where there is no room.
    let heads =
        format!("{:<wide$} {:>8} {:>10} {:<16} {:>10} {:>8} {:>6}", "ACTOR", "MAILBOX", "OLDEST", "HANDLER", "FOR", "HANDLED", "MOST");
    let mut lines = vec![Line::from(Span::styled(heads, theme.heading()))];
    for number in window(at, rows.len(), table.height.saturating_sub(1)) {
        lines.push(line(rows[number], number == at, theme, wide));
    }
    frame.render_widget(Paragraph::new(lines), table);
    if below > 0 {
        let block = Block::new().borders(Borders::TOP).title(tame(&format!(" {} ", rows[at].0.reference))).border_style(theme.quiet());
        let lines = detail::lines(rows[at].0, app, theme);
        frame.render_widget(Paragraph::new(lines).block(block).wrap(Wrap { trim: false }), side);
    }
}

fn line((item, actor): (&Item, &ActorView), selected: bool, theme: Theme, wide: usize) -> Line<'static> {
    let name = elide(&tame(item.reference.strip_prefix("actor/").unwrap_or(&item.reference)), wide);
    let mailbox = format!("{}/{}", actor.depth, actor.capacity);
    let oldest = actor.oldest_ms.map(span).unwrap_or_default();
    let handler = elide(&tame(actor.handler.as_deref().unwrap_or(if item.state == FAILED { "(failed)" } else { "-" })), 16);
    let since = actor.handler_ms.map(span).unwrap_or_default();
    let (handled, most) = (actor.handled, actor.high_water);
    let text = format!("{name:<wide$} {mailbox:>8} {oldest:>10} {handler:<16} {since:>10} {handled:>8} {most:>6}");
    let style = if actor.depth > 0 || item.state == FAILED { theme.state(&item.state) } else { theme.quiet() };
    Line::from(Span::styled(text, if selected { theme.selected() } else { style }))
}
