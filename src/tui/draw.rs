//! Drawing: reads the state, changes nothing. The frame of every page lies here, each page in a file of its own.

mod actors;
mod detail;
mod events;
mod help;
mod incidents;
pub(super) mod members;
mod overview;
mod tree;

use std::ops::Range;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Paragraph, Wrap};

use super::app::App;
use super::keys::PAGES;
use super::theme::{Theme, to_ascii};
use crate::cli::tui::Page;
use crate::report::tame;

/// Screens with fewer columns leave out what can be found elsewhere.
const NARROW: u16 = 60;
/// The least that a page can be drawn on.
const LEAST: (u16, u16) = (40, 10);

/// Everything.
pub(super) fn draw(frame: &mut Frame<'_>, app: &App, theme: Theme) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let sentence = format!("{} x {} is too small: make the terminal at least {} x {}, or q", area.width, area.height, LEAST.0, LEAST.1);
        frame.render_widget(Paragraph::new(sentence).wrap(Wrap { trim: true }), area);
    } else {
        draw_pages(frame, app, theme, area);
    }
    if theme.ascii {
        to_ascii(frame.buffer_mut());
    }
}

fn draw_pages(frame: &mut Frame<'_>, app: &App, theme: Theme, area: Rect) {
    let alarm = app.alarm();
    let rows = [Constraint::Length(1), Constraint::Length(u16::from(alarm.is_some())), Constraint::Length(1), Constraint::Min(1)];
    let [head, warn, tabs, rest] = Layout::vertical(rows).areas(area);
    let [body, foot] = Layout::vertical([Constraint::Min(1), Constraint::Length(1)]).areas(rest);
    frame.render_widget(header(app, theme, head.width), head);
    if let Some(alarm) = alarm {
        frame.render_widget(Paragraph::new(format!(" {}", tame(&alarm))).style(theme.alarm()), warn);
    }
    frame.render_widget(tab_line(app, theme, tabs.width), tabs);
    match app.page {
        Page::Overview => overview::draw(frame, app, theme, body),
        Page::Members => members::draw(frame, app, theme, body),
        Page::Tree => tree::draw(frame, app, theme, body),
        Page::Actors => actors::draw(frame, app, theme, body),
        Page::Events => events::draw(frame, app, theme, body),
        Page::Incidents => incidents::draw(frame, app, theme, body),
    }
    frame.render_widget(footer(app, theme, foot.width), foot);
    if app.help {
        help::draw(frame, theme, area);
    }
}

/// What never leaves the screen: the run, its state, its step.
fn header(app: &App, theme: Theme, width: u16) -> Line<'static> {
    let Some((item, run)) = app.sight.run() else { return Line::from(Span::styled("everstep: no answer yet", theme.heading())) };
    let progress = if run.steps > 0 { format!("step {}/{}", run.step, run.steps) } else { format!("step {}", run.step) };
    let mut spans = vec![
        Span::styled(tame(&run.name), theme.heading()),
        Span::raw("  "),
        Span::styled(tame(&item.state), theme.state(&item.state)),
        Span::raw(format!("  {progress}")),
    ];
    if width >= 70 {
        spans.push(Span::raw(format!("  epoch {}  ranks {}", run.epoch, run.ranks)));
        spans.push(Span::raw(format!("  {:.0} images/s", run.images_per_s)));
    }
    Line::from(spans)
}

fn tab_line(app: &App, theme: Theme, width: u16) -> Line<'static> {
    let mut spans = Vec::new();
    for (at, page) in PAGES.iter().enumerate() {
        let name = page_name(*page);
        // Where all names do not fit, the ones in the back are digits.
        let label = if width >= 64 || *page == app.page { format!(" {} {name} ", at + 1) } else { format!(" {} ", at + 1) };
        let style = if *page == app.page { theme.selected() } else { theme.quiet() };
        spans.push(Span::styled(label, style));
    }
    Line::from(spans)
}

fn page_name(page: Page) -> &'static str {
    match page {
        Page::Overview => "Overview",
        Page::Members => "Members",
        Page::Tree => "Tree",
        Page::Actors => "Actors",
        Page::Events => "Events",
        Page::Incidents => "Incidents",
    }
}

/// The keys of the page, as many as fit.
fn footer(app: &App, theme: Theme, width: u16) -> Line<'static> {
    if app.page == Page::Actors && app.actors.typing {
        return Line::from(format!("/{}_   Enter keeps, Esc clears", tame(&app.actors.filter)));
    }
    let own: &[(&str, &str)] = match app.page {
        Page::Overview => &[],
        Page::Members => &[("arrows", "rank"), ("n", "next trouble"), ("Enter", "in the tree"), ("PgUp/PgDn", "far"), ("g/G", "ends")],
        Page::Tree => &[("Enter", "open"), ("j/k", "move"), ("left", "close"), ("g/G", "ends")],
        Page::Actors => &[("s", "sort"), ("/", "filter"), ("Enter", "in the tree"), ("j/k", "move"), ("g/G", "ends")],
        Page::Events => &[("w", "which"), ("j/k", "move"), ("G", "follow")],
        Page::Incidents => &[("j/k", "move"), ("g/G", "ends")],
    };
    let always = [("q", "quit"), ("?", "help"), ("1-6", "page")];
    let (mut spans, mut used) = (Vec::new(), 0);
    for (key, what) in always.iter().chain(own) {
        let text = format!(" {what}  ");
        used += key.len() + text.len();
        if used > usize::from(width) + 2 {
            break;
        }
        spans.push(Span::styled((*key).to_owned(), theme.heading()));
        spans.push(Span::styled(text, theme.quiet()));
    }
    Line::from(spans)
}

/// The part of a list that is seen when one row is selected: the row stays in the middle where it can.
fn window(at: usize, len: usize, rows: u16) -> Range<usize> {
    let rows = usize::from(rows);
    let from = at.saturating_sub(rows / 2).min(len.saturating_sub(rows));
    from..len.min(from + rows)
}

/// A frame with a title.
fn framed(title: String, theme: Theme) -> Block<'static> {
    Block::bordered().title(title).border_style(theme.quiet())
}

/// A name and what belongs to it.
fn pair(name: &str, value: String, theme: Theme) -> Line<'static> {
    Line::from(vec![Span::styled(format!("{name:<11} "), theme.quiet()), Span::raw(value)])
}

/// Milliseconds since the Unix epoch as a date and a time of the day, UTC.
fn moment(at_ms: u64) -> String {
    let at = i64::try_from(at_ms).ok().and_then(chrono::DateTime::from_timestamp_millis);
    at.map_or_else(|| "unknown".into(), |at| at.format("%m-%d %H:%M:%S").to_string())
}

/// The same where there is little room: the time alone.
fn moment_in(at_ms: u64, width: u16) -> String {
    let moment = moment(at_ms);
    if width < NARROW { moment.split(' ').next_back().unwrap_or_default().to_owned() } else { moment }
}

/// Says that there is nothing, and why.
fn nothing(frame: &mut Frame<'_>, sentence: &str, theme: Theme, area: Rect) {
    frame.render_widget(Paragraph::new(sentence.to_owned()).style(theme.quiet()).wrap(Wrap { trim: true }), area);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_selected_row_is_always_within_the_window() {
        for (at, len, rows) in [(0, 0, 5), (0, 3, 5), (2, 3, 5), (0, 100, 5), (50, 100, 5), (99, 100, 5), (7, 8, 1)] {
            let seen = window(at, len, rows);
            assert!(len == 0 || seen.contains(&at), "{at} {len} {rows} {seen:?}");
            assert!(seen.len() <= usize::from(rows) && seen.len() == len.min(usize::from(rows)), "{seen:?}");
        }
    }

    #[test]
    fn moments_are_readable() {
        assert_eq!((moment(1_796_000_000_000), moment(u64::MAX)), ("11-30 00:53:20".into(), "unknown".into()));
    }
}
