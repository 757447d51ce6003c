//! What keys do.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::app::App;
use super::draw::members;
use crate::cli::tui::Page;

/// The pages in the order of their keys.
pub(super) const PAGES: [Page; 6] = [Page::Overview, Page::Members, Page::Tree, Page::Actors, Page::Events, Page::Incidents];

/// Where a selection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Go {
    By(isize),
    First,
    Last,
}

impl App {
    /// A key was pressed.
    pub(super) fn on_key(&mut self, key: KeyEvent) {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            match key.code {
                KeyCode::Char('c' | 'd') => self.quit = true,
                KeyCode::Char('l') => self.garbled = true,
                KeyCode::Char('f') => self.go(Go::By(self.page_rows())),
                KeyCode::Char('b') => self.go(Go::By(-self.page_rows())),
                _ => {}
            }
            return;
        }
        if self.page == Page::Actors && self.actors.typing {
            return self.type_filter(key.code);
        }
        if self.help {
            // Any key closes the help; the ones that leave it do no more than that.
            self.help = false;
            if matches!(key.code, KeyCode::Esc | KeyCode::Char('q' | '?') | KeyCode::Enter) {
                return;
            }
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => self.quit = true,
            KeyCode::Char('?') | KeyCode::F(1) => self.help = true,
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(PAGES.len() - 1),
            KeyCode::Char(digit @ '1'..='6') => self.page = PAGES[digit as usize - '1' as usize],
            KeyCode::Down | KeyCode::Char('j') => self.go(Go::By(self.line())),
            KeyCode::Up | KeyCode::Char('k') => self.go(Go::By(-self.line())),
            KeyCode::PageDown | KeyCode::Char(' ') => self.go(Go::By(self.page_rows())),
            KeyCode::PageUp => self.go(Go::By(-self.page_rows())),
            KeyCode::Home | KeyCode::Char('g') => self.go(Go::First),
            KeyCode::End | KeyCode::Char('G') => self.go(Go::Last),
            code => self.on_page_key(code),
        }
    }

    /// Keys that only one page knows.
    fn on_page_key(&mut self, code: KeyCode) {
        match (self.page, code) {
            (Page::Members, KeyCode::Right | KeyCode::Char('l')) => self.go(Go::By(1)),
            (Page::Members, KeyCode::Left | KeyCode::Char('h')) => self.go(Go::By(-1)),
            (Page::Members, KeyCode::Char('n')) => self.next_trouble(),
            (Page::Members, KeyCode::Enter) => {
                let ranks = self.sight.ranks();
                if let Some((item, rank)) = ranks.get(self.rank_at()) {
                    self.tree.reveal(&rank.node, &item.reference);
                    self.page = Page::Tree;
                }
            }
            (Page::Actors, KeyCode::Enter) => {
                let rows = self.actors.rows(&self.sight);
                if let Some((item, actor)) = rows.get(self.actors.at(&rows)) {
                    self.tree.reveal(&actor.node, &item.reference);
                    self.page = Page::Tree;
                }
            }
            (Page::Tree, KeyCode::Right | KeyCode::Char('l')) => self.tree.open(&self.sight),
            (Page::Tree, KeyCode::Enter) => self.tree.toggle(&self.sight),
            (Page::Tree, KeyCode::Left | KeyCode::Char('h')) => self.tree.close(&self.sight),
            (Page::Actors, KeyCode::Char('s')) => self.actors.sort = self.actors.sort.next(),
            (Page::Actors, KeyCode::Char('/')) => self.actors.typing = true,
            (Page::Events, KeyCode::Char('w')) => (self.floor, self.event) = (self.floor.next(), None),
            _ => {}
        }
    }

    /// Selects the next rank that does not compute as it should, from the first again after the last.
    fn next_trouble(&mut self) {
        let ranks = self.sight.ranks();
        let at = self.rank_at();
        let after = ranks.iter().cycle().skip(at + 1).take(ranks.len());
        let next = after.filter(|(item, _)| self.standing(item) != "computing").map(|(_, rank)| rank.rank).next();
        self.rank = next.unwrap_or(self.rank);
    }

    fn type_filter(&mut self, code: KeyCode) {
        match code {
            KeyCode::Enter => self.actors.typing = false,
            KeyCode::Esc => {
                self.actors.typing = false;
                self.actors.filter.clear();
            }
            KeyCode::Backspace => drop(self.actors.filter.pop()),
            KeyCode::Char(letter) if self.actors.filter.len() < 60 => self.actors.filter.push(letter),
            _ => {}
        }
    }

    fn turn(&mut self, by: usize) {
        let at = PAGES.iter().position(|page| *page == self.page).unwrap_or_default();
        self.page = PAGES[(at + by) % PAGES.len()];
    }

    /// How far a line is: a row of the grid has many ranks.
    fn line(&self) -> isize {
        match self.page {
            Page::Members => members::columns(self.size.0, self.sight.ranks().len()) as isize,
            _ => 1,
        }
    }

    /// How far a page is.
    fn page_rows(&self) -> isize {
        let rows = (self.size.1 / 2).max(1) as isize;
        if self.page == Page::Members { self.line() * 5 } else { rows }
    }

    fn go(&mut self, go: Go) {
        let to = |at: usize, len: usize| match go {
            Go::First => 0,
            Go::Last => len.saturating_sub(1),
            Go::By(by) => at.saturating_add_signed(by).min(len.saturating_sub(1)),
        };
        match self.page {
            Page::Overview => {}
            Page::Members => {
                let at = self.rank_at();
                let ranks = self.sight.ranks();
                let rank = ranks.get(to(at, ranks.len())).map(|(_, rank)| rank.rank);
                self.rank = rank.unwrap_or_default();
            }
            Page::Tree => {
                let rows = self.tree.rows(&self.sight);
                if let Some(row) = rows.get(to(self.tree.at(&rows), rows.len())) {
                    self.tree.selected.clone_from(&row.reference);
                }
            }
            Page::Actors => {
                let rows = self.actors.rows(&self.sight);
                let selected = rows.get(to(self.actors.at(&rows), rows.len())).map(|(item, _)| item.reference.clone());
                self.actors.selected = selected;
            }
            Page::Events => {
                let len = self.shown().len();
                self.event = follow(to(self.event.unwrap_or(usize::MAX).min(len.saturating_sub(1)), len), len);
            }
            Page::Incidents => {
                let len = self.digest.incidents.len();
                self.incident = follow(to(self.incident.unwrap_or(usize::MAX).min(len.saturating_sub(1)), len), len);
            }
        }
    }
}

/// At the end a list follows what comes.
fn follow(at: usize, len: usize) -> Option<usize> {
    (at + 1 < len).then_some(at)
}
