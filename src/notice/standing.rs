//! From answers to notices: repeated ones are one, the earliest deadline counts, and all must take it back. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Answer, Notice, Stands};

/// Deadlines within this time are one deadline: servers tell time in whole seconds.
const SAME: Duration = Duration::from_secs(1);

/// What stands, by source, and what has been told of it.
#[derive(Debug, Default)]
pub(super) struct Standing {
    sources: BTreeSet<String>,
    /// The deadline that was told last, since the same origin as `now`; `Some(None)` where a notice without one was told.
    told: Option<Option<Duration>>,
}

impl Standing {
    /// What is to be told after an answer that came at `now` (since any fixed origin).
    ///
    /// A deadline never moves back while any notice stands: who drains towards the earlier one is in time for the later.
    pub(super) fn hear(&mut self, now: Duration, source: &str, answer: Answer) -> Option<Notice> {
        match answer {
            Answer::Stands(notice) => self.stands(now, source, notice),
            Answer::Clear => self.clear(source),
            Answer::Silent(_) => None,
        }
    }

    fn stands(&mut self, now: Duration, source: &str, Stands { kind, left, because }: Stands) -> Option<Notice> {
        self.sources.insert(source.to_owned());
        let deadline = left.map(|left| now.saturating_add(left));
        let sooner = match (self.told, deadline) {
            (None, _) | (Some(None), Some(_)) => true,
            (Some(_), None) => false,
            (Some(Some(told)), Some(new)) => new.saturating_add(SAME) < told,
        };
        sooner.then(|| {
            self.told = Some(deadline);
            Notice::Preempt { source: source.to_owned(), kind, deadline: left, because }
        })
    }

    fn clear(&mut self, source: &str) -> Option<Notice> {
        let last = self.sources.remove(source) && self.sources.is_empty();
        last.then(|| {
            self.told = None;
            Notice::Cancelled { source: source.to_owned(), because: format!("{source} has taken its notice back") }
        })
    }
}
