//! What nodes said on their standard error, kept with the run: the last of it, bounded.

use std::collections::VecDeque;

use everstep_actors::clock::wall_ms;
use serde_json::{Value, json};

/// Bytes that are kept.
const BYTES_MAX: usize = 1 << 20;

/// The lines of one launcher's nodes, oldest first.
#[derive(Debug)]
pub(super) struct Logbook {
    key: String,
    lines: VecDeque<String>,
    bytes: usize,
    changed: bool,
}

impl Logbook {
    /// For the nodes of this host's launcher.
    pub(super) fn new(host: &str) -> Self {
        let host: String = host.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        let key = format!("logs/{host}-{}-{}.jsonl", std::process::id(), wall_ms());
        Self { key, lines: VecDeque::new(), bytes: 0, changed: false }
    }

    /// Takes in a line; how it reads for people. A line that is no object of the log is kept as one.
    pub(super) fn add(&mut self, slot: u32, line: &str) -> String {
        let object = serde_json::from_str::<Value>(line).ok().filter(|value| value.get("message").is_some_and(Value::is_string));
        let known = object.is_some();
        let mut value = object.unwrap_or_else(|| json!({ "at_ms": wall_ms(), "level": "info", "message": line }));
        if let Some(object) = value.as_object_mut() {
            object.insert("slot".into(), slot.into());
        }
        let text = value.to_string() + "\n";
        self.bytes += text.len();
        self.lines.push_back(text);
        while self.bytes > BYTES_MAX {
            self.bytes -= self.lines.pop_front().map_or(self.bytes, |line| line.len());
        }
        self.changed = true;
        if !known {
            return line.to_owned();
        }
        let word = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let standard = ["time", "level", "run", "node", "epoch", "step", "actor", "target", "message", "slot"];
        let others = value.as_object().into_iter().flatten().filter(|(name, _)| !standard.contains(&name.as_str()));
        let others: String = others.map(|(name, value)| format!(" {name}={}", value.to_string().trim_matches('"'))).collect();
        format!("{} {}{others}", word("level"), word("message"))
    }

    /// What is to be written where, if there is anything new.
    pub(super) fn due(&mut self) -> Option<(String, String)> {
        std::mem::take(&mut self.changed).then(|| (self.key.clone(), self.lines.iter().map(String::as_str).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_objects_and_only_so_many_are_kept() {
        let mut book = Logbook::new("a box");
        let line = r#"{"level":"warn","message":"the store is away","actor":"node","error":"EIO"}"#;
        assert_eq!(book.add(1, line), "warn the store is away error=EIO");
        assert_eq!(book.add(2, "thread panicked"), "thread panicked");
        let (key, text) = book.due().unwrap();
        assert!(key.starts_with("logs/a-box-") && text.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{key} {text}");
        assert!(text.contains("\"slot\":1") && text.contains("thread panicked"), "{text}");
        assert!(book.due().is_none(), "nothing new");
        (0..3 * BYTES_MAX / 1_000).for_each(|_| drop(book.add(0, &"x".repeat(1_000))));
        let (_, text) = book.due().unwrap();
        assert!(text.len() <= BYTES_MAX && text.len() > BYTES_MAX / 2, "{}", text.len());
    }
}
