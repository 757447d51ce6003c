//! The tree on the left or above, the selected thing in full beside or beneath it.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Wrap};

use super::{detail, nothing, window};
use crate::report::tame;
use crate::tui::app::App;
use crate::tui::theme::Theme;
use crate::tui::tree::Row;

pub(super) fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let rows = app.tree.rows(&app.sight);
    if rows.is_empty() {
        return nothing(frame, "Nothing is known of the run yet.", theme, area);
    }
    let half = [Constraint::Percentage(50), Constraint::Percentage(50)];
    let (layout, border) =
        if area.width >= 100 { (Layout::horizontal(half), Borders::LEFT) } else { (Layout::vertical(half), Borders::TOP) };
    let [list, side] = layout.areas(area);
    let at = app.tree.at(&rows);
    let lines: Vec<Line<'_>> =
        window(at, rows.len(), list.height).map(|number| line(&rows[number], number == at, theme, list.width)).collect();
    frame.render_widget(Paragraph::new(lines), list);
    let title = format!(" {} ({} of {}) ", rows[at].reference, at + 1, rows.len());
    let block = Block::new().borders(border | Borders::TOP).title(tame(&title)).border_style(theme.quiet());
    let lines = app.sight.item(&rows[at].reference).map(|item| detail::lines(item, app, theme)).unwrap_or_default();
    frame.render_widget(Paragraph::new(lines).block(block).wrap(Wrap { trim: false }), side);
}

fn line(row: &Row, selected: bool, theme: Theme, width: u16) -> Line<'static> {
    let mark = match row.open {
        Some(true) => "▾ ",
        Some(false) => "▸ ",
        None => "  ",
    };
    let label = format!("{}{mark}{}", "  ".repeat(row.depth), tame(&row.label));
    // The state stays in sight however long the name is.
    let room = usize::from(width).saturating_sub(row.state.chars().count() + 2);
    let label: String =
        if label.chars().count() > room { label.chars().take(room.saturating_sub(1)).chain(['…']).collect() } else { label };
    let style = if selected { theme.selected() } else { ratatui::style::Style::new() };
    Line::from(vec![Span::styled(label, style), Span::raw("  "), Span::styled(tame(&row.state), theme.state(&row.state))])
}
