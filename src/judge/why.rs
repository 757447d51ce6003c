//! Why: the chain of causes from what people see to the actor, link or node at fault, and what can be done about it.
//!
//! Each link of the chain is something that the view shows of one thing; nothing is guessed. Where the chain ends without a fault, it
//! says so.

use std::collections::BTreeSet;

use everstep_actors::desk::view::{Item, View};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::layout::{WIDTH, fit, wrap};
use super::refer;

mod about;
mod blame;
mod slow;
mod waiting;

pub(super) use slow::{DATA_SHARE, LOSSY, loss, slow_ranks};

/// The answer to one `why`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Chain {
    /// The version of this schema.
    pub schema_version: u32,
    /// What was asked: `waiting`, `slow` or a reference.
    pub about: String,
    /// When it was true, milliseconds since the Unix epoch.
    pub as_of_ms: u64,
    /// The answer in one sentence.
    pub answer: String,
    /// From the symptom to the cause.
    pub links: Vec<Link>,
    /// The reference of what is at fault, if anything is.
    pub at_fault: Option<String>,
    /// What to do, if there is something to do.
    pub remedy: Option<String>,
}

/// One link of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Link {
    /// Of what.
    pub reference: String,
    /// What the view shows of it.
    pub says: String,
}

/// Why the run waits.
pub fn waiting(view: &View) -> Chain {
    waiting::chain(view)
}

/// Why the run is slow.
pub fn slow(view: &View) -> Chain {
    slow::chain(view)
}

/// Why something is as it is.
///
/// # Errors
/// One sentence: there is no such thing, and which there are.
pub fn about(view: &View, typed: &str) -> Result<Chain, String> {
    Ok(about::chain(view, &refer::resolve(view, typed)?))
}

/// Whether the run waits, or a step is long overdue.
pub fn waits(view: &View) -> bool {
    waiting::waits(view)
}

impl Chain {
    /// For people: the answer, a line for each link, the fault and the remedy.
    pub fn text(&self) -> Vec<String> {
        let mut lines = wrap(&self.answer, WIDTH, 2);
        for (depth, link) in self.links.iter().enumerate() {
            let indent = "  ".repeat(depth.min(8));
            let arrow = if depth == 0 { "  " } else { "└ " };
            // What went wrong is never cut: a long reason goes on below.
            let text = wrap(&format!("{}: {}", link.reference, link.says), WIDTH - indent.len() - 2, 4);
            lines.extend(text.iter().enumerate().map(|(number, line)| format!("{indent}{}{line}", if number == 0 { arrow } else { "  " })));
        }
        lines.extend(self.at_fault.as_ref().map(|fault| fit(&format!("at fault: {fault}"), WIDTH)));
        lines.extend(self.remedy.iter().flat_map(|remedy| wrap(&format!("remedy: {remedy}"), WIDTH, 2)));
        lines
    }
}

/// A chain while it is followed.
#[derive(Debug)]
struct Walk<'a> {
    view: &'a View,
    links: Vec<Link>,
    seen: BTreeSet<String>,
    at_fault: Option<String>,
    remedy: Option<String>,
}

impl<'a> Walk<'a> {
    fn new(view: &'a View) -> Self {
        Self { view, links: Vec::new(), seen: BTreeSet::new(), at_fault: None, remedy: None }
    }

    /// Goes one link further; `false` if the chain has been there.
    fn to(&mut self, reference: &str, says: impl Into<String>) -> bool {
        let news = self.seen.insert(reference.to_owned());
        if news {
            self.links.push(Link { reference: reference.to_owned(), says: says.into() });
        }
        news
    }

    /// The chain ends here.
    fn fault(&mut self, reference: &str, remedy: impl Into<String>) {
        self.at_fault = Some(reference.to_owned());
        self.remedy = Some(remedy.into());
    }

    fn item(&self, reference: &str) -> Option<&'a Item> {
        self.view.item(reference)
    }

    fn done(self, about: &str, answer: impl Into<String>) -> Chain {
        let Self { view, links, at_fault, remedy, .. } = self;
        let (about, answer, as_of_ms) = (about.to_owned(), answer.into(), view.as_of_ms);
        Chain { schema_version: super::SCHEMA_VERSION, about, as_of_ms, answer, links, at_fault, remedy }
    }
}

/// Milliseconds in words.
fn ms(milliseconds: u64) -> String {
    crate::report::duration(milliseconds as f64 / 1e3)
}

#[cfg(test)]
mod tests;
