//! What is said beside the data: whose answer it is, what is missing, what a limit cut. Data goes to stdout, this to stderr.

use std::io::{self, ErrorKind, Write};

use everstep_actors::desk::view::{Scope, View};

use super::human::clock;
use crate::cli::{ExitCode, Failure};
use crate::report::tame;

/// Sentences about an answer; empty when the leader answered in full.
pub fn notes(view: &View) -> Vec<String> {
    let mut notes = Vec::new();
    let as_of = clock(view.as_of_ms);
    match view.scope {
        Scope::Run => {}
        Scope::Node => {
            let node = if view.answered_by.is_empty() { "a member" } else { &view.answered_by };
            notes.push(format!("the leader does not answer: node {node} tells what it knows, as of {as_of} UTC"));
        }
        Scope::Store => notes.push(format!("nobody answers: the store tells what is durable, as of {as_of} UTC")),
    }
    notes.extend(view.missing.iter().map(|sentence| format!("missing: {sentence}")));
    notes.extend(cut(view.items.len(), view.matched));
    notes
}

/// That a limit cut what matched, if it did.
pub fn cut(shown: usize, matched: u64) -> Option<String> {
    (matched > shown as u64).then(|| format!("showing {shown} of {matched}: raise --limit or narrow --filter"))
}

/// That nothing matches: said aloud, so that no one takes it for a failure.
pub fn nothing(what: &str, filters: &[String]) -> String {
    match filters {
        [] => format!("there are no {what}"),
        filters => format!("there are no {what} with {}", filters.join(" and ")),
    }
}

/// Says sentences to people. A closed pipe ends the talk, not the command.
pub fn say(sentences: &[String]) {
    let mut stderr = io::stderr().lock();
    for sentence in sentences {
        drop(writeln!(stderr, "{}", tame(sentence)));
    }
}

/// Writes data. A closed pipe ends the output, not the command.
///
/// # Errors
/// [`ExitCode::Failed`] when no more is taken for another reason, for instance a full disk.
pub fn put(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::new(ExitCode::Failed, format!("stdout cannot be written ({error}); free space or direct it elsewhere")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::view;

    #[test]
    fn a_full_answer_of_the_leader_needs_no_words() {
        assert!(notes(&view(2)).is_empty());
    }

    #[test]
    fn who_answers_and_what_is_missing_is_said() {
        let missing = vec!["node n1 did not answer within 1 s".to_owned()];
        let whole = view(2);
        let cut = View { scope: Scope::Node, answered_by: "n0a".into(), missing, matched: whole.items.len() as u64 + 5, ..whole.clone() };
        let count = whole.items.len();
        let expected = [
            "the leader does not answer: node n0a tells what it knows, as of 02:14:03 UTC".to_owned(),
            "missing: node n1 did not answer within 1 s".to_owned(),
            format!("showing {count} of {}: raise --limit or narrow --filter", count + 5),
        ];
        assert_eq!(notes(&cut), expected);
        let stored = View { scope: Scope::Store, ..whole };
        assert_eq!(notes(&stored), ["nobody answers: the store tells what is durable, as of 02:14:03 UTC"]);
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is() {
        struct Broken(ErrorKind);
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert_eq!(put(&mut Broken(ErrorKind::BrokenPipe), "x"), Ok(()));
        assert_eq!(put(&mut Broken(ErrorKind::StorageFull), "x").unwrap_err().code, ExitCode::Failed);
    }
}
