//! The help that lies over a page.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Clear, Paragraph};

use super::framed;
use crate::tui::theme::Theme;

const KEYS: [(&str, &str); 17] = [
    ("1-6 Tab", "another page"),
    ("j k arrows", "move; by rows in Members"),
    ("PgUp PgDn", "move far"),
    ("g G", "first, last"),
    ("? q Esc", "help, quit (also Ctrl-C)"),
    ("Ctrl-L", "draw anew"),
    ("", ""),
    ("Members", "C computes  S slowly  w waits"),
    ("", ". idle  d drains  j joins  ! silent"),
    ("", "n next trouble, Enter in the tree"),
    ("Tree", "Enter or right opens, left closes"),
    ("Actors", "s other order, / filter by name"),
    ("", "failed actors always come first"),
    ("Events", "w which ones; at the end it follows"),
    ("Incidents", "from what stopped the run to the"),
    ("", "next committed step"),
    ("", "All times are UTC."),
];

/// Over everything but the first line.
pub(super) fn draw(frame: &mut Frame<'_>, theme: Theme, area: Rect) {
    let (width, height) = (area.width.min(54), (area.height - 1).min(KEYS.len() as u16 + 2));
    let place = Rect::new(area.x + (area.width - width) / 2, area.y + 1 + (area.height - 1 - height) / 2, width, height);
    let lines: Vec<Line<'_>> = KEYS
        .iter()
        .filter(|(key, what)| height > KEYS.len() as u16 || !(key.is_empty() && what.is_empty()))
        .map(|(key, what)| Line::from(vec![Span::styled(format!("{key:<10} "), theme.heading()), Span::raw(*what)]))
        .collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(framed(" Keys ".into(), theme)), place);
}
