//! Tables that never wrap: cells in columns, the widest cells elided until a line fits.

use super::human::{elide, width};
use crate::report::tame;

/// No table is wider than this unless it is asked to be.
pub(crate) const WIDTH: usize = 100;

const GAP: usize = 2;

/// Rows in columns, no space at the ends of lines; in `limit` columns where there is a limit. The first row is the header.
pub(crate) fn table(rows: &[Vec<String>], limit: Option<usize>) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| tame(cell)).collect()).collect();
    let mut widths = vec![0; count];
    for row in &rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(width(cell));
        }
    }
    if let Some(limit) = limit {
        shrink(&mut widths, limit.saturating_sub(GAP * count.saturating_sub(1)));
    }
    let mut out = String::new();
    for row in &rows {
        let start = out.len();
        for (cell, columns) in row.iter().zip(&widths) {
            let cell = elide(cell, *columns);
            out.push_str(&cell);
            out.extend(std::iter::repeat_n(' ', columns - width(&cell) + GAP));
        }
        let end = start + out[start..].trim_end().len();
        out.truncate(end);
        out.push('\n');
    }
    out
}

/// The columns of the longest line if nothing is cut.
pub(crate) fn natural(rows: &[Vec<String>]) -> usize {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0);
    (0..count).map(widest).sum::<usize>() + GAP * count.saturating_sub(1)
}

/// The widest columns give way first, so that numbers and ids stay whole as long as there is a sentence to cut.
fn shrink(widths: &mut [usize], room: usize) {
    widths.iter_mut().for_each(|columns| *columns = (*columns).min(room));
    let mut over = widths.iter().sum::<usize>().saturating_sub(room);
    while over > 0 {
        let Some(widest) = widths.iter_mut().max() else { return };
        *widest -= 1;
        over -= 1;
    }
}

/// One line that ends within the limit of tables.
pub(crate) fn line(text: &str) -> String {
    elide(tame(text).trim_end(), WIDTH)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: &[&[&str]]) -> Vec<Vec<String>> {
        rows.iter().map(|row| row.iter().map(|&cell| cell.to_owned()).collect()).collect()
    }

    #[test]
    fn columns_line_up_and_lines_end_without_spaces() {
        let text = table(&rows(&[&["NODE", "STATE"], &["n1", "in"], &["n0a1b", ""]]), None);
        assert_eq!(text, "NODE   STATE\nn1     in\nn0a1b\n");
        assert_eq!(table(&[], Some(100)), "");
    }

    #[test]
    fn the_widest_cells_give_way() {
        let long = "x".repeat(500);
        let text = table(&rows(&[&["ID", "TEXT", "N"], &["n0a1b2c3d", &long, "17"]]), Some(40));
        assert!(text.lines().all(|line| width(line) <= 40) && text.contains("n0a1b2c3d  xxx") && text.ends_with("  17\n"), "{text}");
        assert_eq!(natural(&rows(&[&["ID", "TEXT"], &["n0a1", "x"]])), 10);
        let all_long = table(&[vec![long; 12]], Some(100));
        assert!(width(all_long.trim_end()) <= 100, "{all_long}");
    }

    #[test]
    fn cells_cannot_drive_a_terminal_or_break_a_line() {
        let text = table(&rows(&[&["a\x1b[31m\nb\u{9b}c"]]), None);
        assert_eq!(text, "a [31m b c\n");
    }
}
