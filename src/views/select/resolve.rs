//! References as people type them: whole, or as much as says which item is meant.

use std::collections::BTreeMap;

use everstep_actors::desk::question::Kind;
use everstep_actors::desk::view::{Item, NodeView, Properties, View};

use super::{KINDS, kind, plural};
use crate::cli::{ExitCode, Failure};
use crate::views::human::bare;

/// How many names an answer lists.
const NAMES_MAX: usize = 5;

/// The item that is meant: a reference, the beginning of a node's id, `r2`, `l7`, `s40`, a host, or `NODE/ACTOR`.
///
/// # Errors
/// [`ExitCode::NotFound`] with what comes near; [`ExitCode::Usage`] where several are meant.
pub fn resolve<'a>(view: &'a View, text: &str) -> Result<&'a Item, Failure> {
    let text = text.trim();
    if let Some(item) = view.item(text) {
        return Ok(item);
    }
    let nodes = Nodes::of(view);
    let text = spelled_out(text);
    let text = text.as_str();
    let (asked, name) = match text.split_once('/') {
        Some((word, name)) if kind(word).is_ok() => (kind(word).ok(), name),
        _ => (None, text),
    };
    let meant: Vec<&Item> =
        view.items.iter().filter(|item| asked.is_none_or(|kind| kind == item.kind()) && nodes.means(item, asked, name)).collect();
    match meant[..] {
        [item] => Ok(item),
        [] => Err(Failure::new(ExitCode::NotFound, nothing(view, asked, text))),
        _ => {
            let names: Vec<&str> = meant.iter().take(NAMES_MAX).map(|item| item.reference.as_str()).collect();
            let more = meant.len().saturating_sub(NAMES_MAX);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            Err(Failure::new(ExitCode::Usage, format!("`{text}` may be {}{more}: type more of it", names.join(", "))))
        }
    }
}

/// The nodes of a view by the id that people see.
struct Nodes<'a>(BTreeMap<&'a str, &'a NodeView>);

impl<'a> Nodes<'a> {
    fn of(view: &'a View) -> Self {
        let node = |item: &'a Item| match &item.properties {
            Properties::Node(node) => Some((bare(&item.reference), node)),
            _ => None,
        };
        Self(view.items.iter().filter_map(node).collect())
    }

    /// Whether `name`, typed for an item of the kind `asked` or of any, means this item.
    fn means(&self, item: &Item, asked: Option<Kind>, name: &str) -> bool {
        let reference = bare(&item.reference);
        let numbered = || asked.is_some() && number(name).is_some() && number(name) == number(reference);
        // Shards are `u0.3` in plans and logs.
        let shard = || name.strip_prefix('u').unwrap_or(name).replace('.', "/") == reference.strip_prefix('u').unwrap_or(reference);
        let pair = || reference.split_once('/').zip(name.split_once('/'));
        match &item.properties {
            Properties::Run(run) => asked.is_none() && !name.is_empty() && run.name == name,
            Properties::Node(_) => self.is(reference, name, asked.is_some()),
            Properties::Rank(_) => numbered(),
            Properties::Lane(_) => numbered(),
            Properties::Checkpoint(_) => numbered(),
            Properties::Shard(_) => shard(),
            Properties::Actor(actor) => {
                actor.name == name || pair().is_some_and(|((node, mine), (prefix, name))| mine == name && self.is(node, prefix, true))
            }
            Properties::Event(_) => {
                asked.is_some() && pair().is_some_and(|((node, mine), (prefix, number))| mine == number && self.is(node, prefix, true))
            }
            Properties::Link(_) => {
                let ends = pair().is_some_and(|((from, to), (one, other))| self.is(from, one, true) && self.is(to, other, true));
                asked.is_some() && ends
            }
        }
    }

    /// Whether a node is meant: by the beginning of its id with or without the `n`, by its host, or by its rank where only a node can stand.
    fn is(&self, id: &str, name: &str, by_rank: bool) -> bool {
        let begins = |id: &str| id.starts_with(name) || id.strip_prefix('n').is_some_and(|digits| digits.starts_with(name));
        let known = self.0.get(id);
        let rank = || known.and_then(|node| node.rank).is_some_and(|rank| name.strip_prefix('r').and_then(number) == Some(u64::from(rank)));
        let by_name = || {
            known.is_some_and(|node| node.host == name || (name.len() >= 8 && node.id.starts_with(name.strip_prefix('n').unwrap_or(name))))
        };
        !name.is_empty() && (begins(id) || by_name() || (by_rank && rank()))
    }
}

/// `rank/2` for `r2`, `lane/7` for `l7`, `checkpoint/40` for `s40`.
fn spelled_out(text: &str) -> String {
    let letters = [('r', "rank"), ('l', "lane"), ('s', "checkpoint")];
    let short = letters.iter().find_map(|(letter, kind)| Some((kind, text.strip_prefix(*letter)?)));
    short.filter(|(_, digits)| number(digits).is_some()).map_or_else(|| text.to_owned(), |(kind, digits)| format!("{kind}/{digits}"))
}

fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

/// Why there is nothing of this name, and what comes near.
fn nothing(view: &View, asked: Option<Kind>, text: &str) -> String {
    let of_kind = |item: &&Item| asked.is_none_or(|kind| kind == item.kind());
    let nearness = |item: &Item| {
        let names = [item.reference.as_str(), bare(&item.reference), item.reference.rsplit('/').next().unwrap_or_default()];
        names.iter().map(|name| distance(name, text)).min().unwrap_or(usize::MAX)
    };
    let enough = (text.chars().count() / 3).max(1);
    let mut near: Vec<(usize, &str)> = view.items.iter().filter(of_kind).map(|item| (nearness(item), item.reference.as_str())).collect();
    near.retain(|(distance, _)| *distance <= enough);
    near.sort_unstable();
    let near: Vec<&str> = near.into_iter().take(3).map(|(_, name)| name).collect();
    let kinds = asked.map_or("nodes", plural);
    if near.is_empty() {
        let known: Vec<&str> = KINDS.iter().map(|(_, one, _)| *one).collect();
        let form =
            if asked.is_none() { format!(", and a reference is KIND/NAME with a kind of {}", known.join(", ")) } else { String::new() };
        format!("there is no `{text}`: `everstep get {kinds} -o name` lists what there is{form}")
    } else {
        format!("there is no `{text}`: near it are {}; `everstep get {kinds} -o name` lists what there is", near.join(", "))
    }
}

/// How many characters have to be put in, left out or replaced to make one text of the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(128).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().take(128).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::sample::{id, view};

    fn found(text: &str) -> String {
        resolve(&view(4), text).map_or_else(|failure| failure.to_string(), |item| item.reference.clone())
    }

    #[test]
    fn short_names_are_enough() {
        let node = id(2);
        for text in [
            format!("node/{node}"),
            node.clone(),
            node[..5].to_owned(),
            node[1..6].to_owned(),
            format!("node/{}", &node[1..4]),
            "node/r2".into(),
            "box-2".into(),
        ] {
            assert_eq!(found(&text), format!("node/{node}"), "{text}");
        }
        assert_eq!(found(&format!("{}{}", node, "0".repeat(24))), format!("node/{node}"), "a whole id");
        for (text, reference) in [
            ("r2", "rank/2"),
            ("ranks/2", "rank/2"),
            ("l7", "lane/7"),
            ("s40", "checkpoint/40"),
            ("run", "run"),
            ("demo", "run"),
            ("u0.3", "shard/u0/3"),
            ("shard/u0.3", "shard/u0/3"),
        ] {
            assert_eq!(found(text), reference, "{text}");
        }
        for text in [format!("actor/{}/loader", &node[..4]), format!("{node}/loader"), "actor/r2/loader".into(), "box-2/loader".into()] {
            assert_eq!(found(&text), format!("actor/{node}/loader"), "{text}");
        }
        assert_eq!(found(&format!("event/{}/2", &id(0)[..4])), format!("event/{}/2", id(0)));
        assert_eq!(found("link/r0/r1"), format!("link/{}/{}", id(0), id(1)));
    }

    #[test]
    fn what_is_not_there_is_told_with_what_comes_near() {
        let failure = resolve(&view(4), "rank/9").unwrap_err();
        assert_eq!(failure.code, ExitCode::NotFound);
        assert!(failure.sentence.contains("near it are rank/0, rank/1") && failure.sentence.contains("get ranks -o name"), "{failure}");
        assert!(resolve(&view(4), "r9").unwrap_err().sentence.contains("near it are rank/0, rank/1"));
        assert!(resolve(&view(4), "actor/r2/loadr").unwrap_err().sentence.contains("there is no `actor/r2/loadr`"));
        assert!(resolve(&view(4), "loadr").unwrap_err().sentence.contains("/loader"));
        for text in ["", "/", "node/", "r", "rank/", "rank/-1", "rank/99999999999999999999999", "actor//", "\u{0}", "….…"] {
            assert_eq!(resolve(&view(4), text).unwrap_err().code, ExitCode::NotFound, "{text}");
        }
    }

    #[test]
    fn what_may_be_several_names_them() {
        let failure = resolve(&view(9), "loader").unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
        assert!(failure.sentence.contains("and 4 more: type more of it") && failure.sentence.contains(&id(1)), "{failure}");
    }

    #[test]
    fn distances_are_those_of_levenshtein() {
        assert_eq!([("", "abc"), ("kitten", "sitting"), ("a", "a")].map(|(a, b)| distance(a, b)), [3, 3, 0]);
    }
}
