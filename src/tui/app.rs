//! The state of the interface. It changes by keys, answers and the passing of time, and by nothing else; drawing only reads it.

use everstep_actors::desk::view::{Item, Properties, Scope, View};
use everstep_actors::event::words::Severity;

use super::actors::Actors;
use super::ask::Ask;
use super::happenings::{Digest, Happening};
use super::history::{History, Point};
use super::sight::Sight;
use super::tree::Tree;
use crate::cli::tui::Page;
use crate::report::names;

/// A question that is open for longer is told of.
const SILENT_AFTER_MS: u64 = 2000;

/// Which events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Floor {
    /// All but committed steps.
    #[default]
    Notable,
    /// Warnings and errors.
    Warnings,
    /// Errors.
    Errors,
    /// Committed steps too.
    All,
}

impl Floor {
    /// The next one.
    pub(super) fn next(self) -> Self {
        match self {
            Self::Notable => Self::Warnings,
            Self::Warnings => Self::Errors,
            Self::Errors => Self::All,
            Self::All => Self::Notable,
        }
    }

    /// In words.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Notable => "all but steps",
            Self::Warnings => "warnings and errors",
            Self::Errors => "errors",
            Self::All => "all",
        }
    }

    fn shows(self, happening: &Happening) -> bool {
        match self {
            Self::Notable => !happening.is_step(),
            Self::Warnings => happening.severity >= Severity::Warning,
            Self::Errors => happening.severity >= Severity::Error,
            Self::All => true,
        }
    }
}

/// Everything that is shown, and what is selected.
#[derive(Debug)]
pub(super) struct App {
    /// The page in front.
    pub(super) page: Page,
    /// Whether the help lies over it.
    pub(super) help: bool,
    /// Whether the operator wants to leave.
    pub(super) quit: bool,
    /// Whether the terminal has to be cleared and drawn anew, because something else wrote on it.
    pub(super) garbled: bool,
    /// Columns and rows of the terminal.
    pub(super) size: (u16, u16),
    /// This moment, milliseconds since the Unix epoch, by this machine's clock.
    pub(super) now_ms: u64,
    /// What is known.
    pub(super) sight: Sight,
    /// What happened.
    pub(super) digest: Digest,
    /// The rank that is selected, by its number.
    pub(super) rank: u32,
    /// The tree.
    pub(super) tree: Tree,
    /// The actors.
    pub(super) actors: Actors,
    /// Which events are shown.
    pub(super) floor: Floor,
    /// The event that is selected, counted from the oldest shown; the newest when absent, and then the list follows.
    pub(super) event: Option<usize>,
    /// The incident that is selected, counted from the oldest; the newest when absent.
    pub(super) incident: Option<usize>,
    /// When the first question was asked that was not answered yet.
    asked_ms: Option<u64>,
    /// When an answer came last, by this machine's clock.
    answered_ms: Option<u64>,
    /// Why the last question was not answered.
    failure: Option<String>,
    /// Why the events could not be read.
    events_failure: Option<String>,
    live: History,
}

impl App {
    /// Nothing is known yet.
    pub(super) fn new(page: Page) -> Self {
        Self {
            page,
            help: false,
            quit: false,
            garbled: false,
            size: (80, 24),
            now_ms: 0,
            sight: Sight::default(),
            digest: Digest::default(),
            rank: 0,
            tree: Tree::default(),
            actors: Actors::default(),
            floor: Floor::default(),
            event: None,
            incident: None,
            asked_ms: None,
            answered_ms: None,
            failure: None,
            events_failure: None,
            live: History::default(),
        }
    }

    /// What has to be known for the page in front.
    pub(super) fn asks(&self) -> Vec<Ask> {
        let mut asks = vec![Ask::Base];
        match self.page {
            Page::Overview | Page::Events | Page::Incidents => {
                asks.push(Ask::Events { steps: self.page == Page::Events && self.floor == Floor::All })
            }
            Page::Members => asks.push(Ask::Lanes(format!("rank/{}", self.rank))),
            Page::Tree => asks.extend(self.tree.asks(&self.sight)),
            Page::Actors => {
                let filter = &self.actors.filter;
                asks.extend([Ask::Actors { sort: self.actors.sort, filter: filter.clone() }, Ask::Failed { filter: filter.clone() }]);
            }
        }
        asks
    }

    /// Time passed.
    pub(super) fn on_tick(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// The terminal has another size.
    pub(super) fn on_resize(&mut self, columns: u16, rows: u16) {
        self.size = (columns, rows);
    }

    /// A question was asked.
    pub(super) fn on_asked(&mut self) {
        self.asked_ms = self.asked_ms.or(Some(self.now_ms));
    }

    /// An answer came.
    pub(super) fn on_view(&mut self, ask: &Ask, view: View) {
        (self.asked_ms, self.answered_ms, self.failure) = (None, Some(self.now_ms), None);
        self.sight.take_in(ask, view);
        match ask {
            Ask::Base => self.note_progress(),
            Ask::Events { .. } => self.digest.add(self.sight.items().filter_map(Happening::of_item)),
            _ => {}
        }
    }

    /// The newest step, which the store tells of later.
    fn note_progress(&mut self) {
        let Some((item, run)) = self.sight.run() else { return };
        if run.step == 0 || self.live.points().last().is_some_and(|point| point.step == run.step) {
            return;
        }
        let (at_ms, loss) = (item.as_of_ms.saturating_sub(run.progress_age_ms), run.metrics.get(names::LOSS).copied());
        let point = Point { step: run.step, epoch: run.epoch, at_ms, loss, images_per_s: run.images_per_s };
        self.live.push(point);
        // What the store knows is newer than a leader that was asked before it: only what goes beyond it counts.
        self.digest.history.extend(&self.live);
    }

    /// Nobody could answer.
    pub(super) fn on_failure(&mut self, because: String) {
        self.failure = Some(because);
    }

    /// What is durable was read.
    pub(super) fn on_events(&mut self, read: Result<Digest, String>) {
        match read {
            Ok(digest) => {
                self.digest = digest;
                self.digest.history.extend(&self.live);
                let live: Vec<_> = self.sight.items().filter_map(Happening::of_item).collect();
                self.digest.add(live.into_iter());
                self.events_failure = None;
            }
            Err(because) => self.events_failure = Some(because),
        }
    }

    /// What the operator has to know before anything else on the screen.
    pub(super) fn alarm(&self) -> Option<String> {
        let silent = self.asked_ms.map(|since| self.now_ms.saturating_sub(since)).filter(|age| *age >= SILENT_AFTER_MS);
        let shown = self.answered_ms.map_or_else(
            || "nothing is known yet".to_owned(),
            |at| format!("shown is what was known {} ago", crate::report::duration(self.now_ms.saturating_sub(at) as f64 / 1e3)),
        );
        if let Some(because) = &self.failure {
            return Some(format!("{because}; {shown}"));
        }
        if let Some(age) = silent {
            return Some(format!("no answer for {} s: {shown}", age / 1000));
        }
        match self.sight.scope {
            Some(Scope::Store) => Some("nobody answers: shown is what the store holds".to_owned()),
            Some(Scope::Node) => Some("no leader answers: one node speaks for itself".to_owned()),
            _ => self.sight.missing.first().or(self.events_failure.as_ref()).cloned(),
        }
    }

    /// The events that are shown, oldest first.
    pub(super) fn shown(&self) -> Vec<&Happening> {
        self.digest.happenings.iter().filter(|happening| self.floor.shows(happening)).collect()
    }

    /// The place of the selected rank among all.
    pub(super) fn rank_at(&self) -> usize {
        self.sight.ranks().iter().position(|(_, rank)| rank.rank == self.rank).unwrap_or_default()
    }

    /// Whether a rank's node is on its way out, which matters more than what the rank does.
    pub(super) fn standing(&self, item: &Item) -> String {
        let Properties::Rank(rank) = &item.properties else { return item.state.clone() };
        match self.sight.node(&rank.node) {
            Some((node, _)) if matches!(node.state.as_str(), "draining" | "silent" | "joining" | "ended") => node.state.clone(),
            _ if item.state == "computing" && rank.pace >= super::theme::SLOW_PACE => "slow".to_owned(),
            _ => item.state.clone(),
        }
    }
}
