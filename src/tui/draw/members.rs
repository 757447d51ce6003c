//! The members: one cell for each rank, so that 500 of them fit on 80 columns, and the selected one in full.

use std::collections::BTreeMap;

use everstep_actors::desk::view::{Item, RankView};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Modifier;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Wrap};

use super::{detail, nothing, window};
use crate::report::tame;
use crate::tui::app::App;
use crate::tui::theme::{Theme, letter};

/// Columns of the number in front of a row.
const LABEL: u16 = 5;
/// The selected rank in full.
const DETAIL_ROWS: u16 = 9;

/// Cells of a row of the grid: a round number, so that a rank is found by counting.
pub(in crate::tui) fn columns(width: u16, ranks: usize) -> usize {
    let room = usize::from(width.saturating_sub(LABEL + 1));
    // Between tens there is a gap.
    let fits = |columns: &usize| columns + columns.div_ceil(10) <= room + 1;
    let columns = [100, 50, 20, 10, 5].into_iter().find(fits).unwrap_or(1);
    columns.min(ranks.max(1))
}

pub(super) fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let ranks = app.sight.ranks();
    if ranks.is_empty() {
        return nothing(frame, "No rank has a place in the plan yet.", theme, area);
    }
    let columns = columns(area.width, ranks.len());
    let grid_rows = ranks.len().div_ceil(columns) as u16;
    let at = app.rank_at();
    let below = DETAIL_ROWS.min(area.height.saturating_sub(2) / 2);
    let grid_rows = grid_rows.min(area.height.saturating_sub(1 + below)).max(1);
    let spare = area.height.saturating_sub(1 + grid_rows + below);
    // Where there is room, a line for each of the ranks around the selected one.
    let table_rows = if spare >= 3 && area.height >= 14 { spare.min(ranks.len().min(200) as u16 + 1) } else { 0 };
    let parts = [Constraint::Length(1), Constraint::Length(grid_rows), Constraint::Length(table_rows), Constraint::Min(0)];
    let [head, grid, table, rest] = Layout::vertical(parts).areas(area);
    frame.render_widget(counts(app, &ranks, theme, area.width), head);
    frame.render_widget(Paragraph::new(cells(app, &ranks, columns, at, grid_rows, theme)), grid);
    if table_rows > 0 {
        frame.render_widget(Paragraph::new(rows(app, &ranks, at, table_rows, theme)), table);
    }
    let (item, rank) = ranks[at];
    let block = Block::new().borders(Borders::TOP).title(format!(" rank/{} ", rank.rank)).border_style(theme.quiet());
    let lines = detail::lines(item, app, theme);
    frame.render_widget(Paragraph::new(lines).block(block).wrap(Wrap { trim: false }), rest);
}

/// How many there are of each state; at the same time the legend.
fn counts(app: &App, ranks: &[(&Item, &RankView)], theme: Theme, width: u16) -> Line<'static> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for (item, _) in ranks {
        *counts.entry(app.standing(item)).or_default() += 1;
    }
    let mut spans = vec![Span::raw(format!("{} ranks: ", ranks.len()))];
    for (state, count) in &counts {
        let told = if width < 60 { format!("{}={count} ", letter(state)) } else { format!("{} {count} {state}  ", letter(state)) };
        spans.push(Span::styled(tame(&told), theme.state(state)));
    }
    for (state, words) in [("standing by", "nodes stand by  "), ("waiting", "nodes wait to be let in")] {
        let nodes = app.sight.nodes().iter().filter(|(item, _)| item.state == state).count();
        if nodes > 0 {
            spans.push(Span::styled(format!("{nodes} {words}"), theme.state(state)));
        }
    }
    Line::from(spans)
}

fn cells(app: &App, ranks: &[(&Item, &RankView)], columns: usize, at: usize, rows: u16, theme: Theme) -> Vec<Line<'static>> {
    let all = ranks.len().div_ceil(columns);
    window(at / columns, all, rows)
        .map(|row| {
            let first = row * columns;
            let mut spans = vec![Span::styled(format!("{:>4} ", ranks[first].1.rank), theme.quiet())];
            for (offset, (item, _)) in ranks[first..].iter().take(columns).enumerate() {
                if offset > 0 && offset % 10 == 0 {
                    spans.push(Span::raw(" "));
                }
                let state = app.standing(item);
                let style = theme.state(&state);
                let style = if first + offset == at { style.add_modifier(Modifier::REVERSED | Modifier::BOLD) } else { style };
                spans.push(Span::styled(letter(&state).to_string(), style));
            }
            Line::from(spans)
        })
        .collect()
}

/// A line for each rank.
fn rows(app: &App, ranks: &[(&Item, &RankView)], at: usize, height: u16, theme: Theme) -> Vec<Line<'static>> {
    let head = format!("{:>4} {:<10} {:<9} {:>8} {:>6} {:>9} {:<16}", "RANK", "STATE", "PHASE", "STEP", "PACE", "COMPUTE", "HOST");
    let mut lines = vec![Line::from(Span::styled(head, theme.heading()))];
    for (item, rank) in &ranks[window(at, ranks.len(), height - 1)] {
        let state = app.standing(item);
        let host = app.sight.node(&rank.node).map(|(_, node)| tame(&node.host)).unwrap_or_default();
        let compute = rank.phases.get("compute").map(|seconds| format!("{seconds:.3} s")).unwrap_or_default();
        let (number, pace) = (rank.rank, format!("{:.2}x", rank.pace));
        let text = format!("{number:>4} {state:<10} {:<9} {:>8} {pace:>6} {compute:>9} {host:<16}", tame(&rank.phase), rank.step);
        let style = theme.state(&state);
        let style = if ranks[at].1.rank == number { style.add_modifier(Modifier::REVERSED) } else { style };
        lines.push(Line::from(Span::styled(text, style)));
    }
    lines
}
