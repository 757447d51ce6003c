//! What fields mean, in the words of their own documentation, and the schema that programs check answers by.

use std::fmt::Write as _;

use everstep_actors::desk::order::{Answer, Order};
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::{SCHEMA_VERSION, View};
use schemars::schema_for;
use serde_json::json;

use super::fields::{self, Field};
use super::human::width;
use super::select::{self, KINDS, singular};
use crate::cli::{ExitCode, Failure};

/// Columns of an explanation.
const COLUMNS: usize = 96;

/// Explains a kind (`actor`), a field of it (`actor.depth`, `actor.error.root_cause`), a field of whatever kinds have it (`depth`),
/// what every item has (`item`), or what is around the items (`view`).
///
/// # Errors
/// [`ExitCode::NotFound`] with the names that there are.
pub fn explain(path: &str) -> Result<String, Failure> {
    let path = path.trim();
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let group = match first {
        "item" => Some(("item".to_owned(), "What everything has, whatever its kind.".to_owned(), fields::common())),
        "view" => Some(("view".to_owned(), "An answer: who gave it, when, what is missing, and the items.".to_owned(), fields::around())),
        word => select::kind(word).ok().map(|kind| (singular(kind).to_owned(), fields::about(kind), fields::particular(kind))),
    };
    let Some((name, about, own)) = group else { return anywhere(path) };
    let Some(rest) = rest else { return Ok(list(&name, &about, &own)) };
    let meant = select::kind(first).ok().and_then(|kind| select::heading(kind, rest)).unwrap_or(rest);
    let found = fields::find(&own, meant).or_else(|| fields::find(&fields::common(), meant));
    found.map(|field| one(&format!("{name}.{meant}"), &field)).ok_or_else(|| {
        let names: Vec<&str> = own.iter().map(|field| field.name.as_str()).collect();
        Failure::new(ExitCode::NotFound, format!("{name} has no field `{rest}`: it has {}", names.join(", ")))
    })
}

/// A field of this name in whatever kinds have it.
fn anywhere(path: &str) -> Result<String, Failure> {
    let of_kind = |(kind, name, _): &(_, &str, &str)| {
        let meant = select::heading(*kind, path).unwrap_or(path);
        fields::find(&fields::particular(*kind), meant).map(|field| one(&format!("{name}.{meant}"), &field))
    };
    let mut found: Vec<String> = KINDS.iter().filter_map(of_kind).collect();
    for (name, group) in [("item", fields::common()), ("view", fields::around())] {
        found.extend(fields::find(&group, path).map(|field| one(&format!("{name}.{path}"), &field)));
    }
    if found.is_empty() {
        let kinds: Vec<&str> = KINDS.iter().map(|(_, one, _)| *one).collect();
        let sentence = format!("nothing is called `{path}`: explain one of {}, item or view, and then KIND.FIELD", kinds.join(", "));
        return Err(Failure::new(ExitCode::NotFound, sentence));
    }
    Ok(found.join("\n"))
}

/// A group with all its fields.
fn list(name: &str, about: &str, own: &[Field]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{name}\n{}", wrap(about, 2));
    own.iter().for_each(|field| entry(&mut out, field));
    if name != "item" && name != "view" {
        let common: Vec<String> = fields::common().into_iter().map(|field| field.name).collect();
        let more = format!("And what every item has, see `everstep explain item`: {}.", common.join(", "));
        let _ = writeln!(out, "\n{}", wrap(&more, 2));
    }
    out
}

/// One field with what lies in it.
fn one(path: &str, field: &Field) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{path}  <{}>{}\n{}", field.holds, presence(field), wrap(&field.about, 2));
    field.inner.iter().for_each(|inner| entry(&mut out, inner));
    out
}

fn entry(out: &mut String, field: &Field) {
    let _ = writeln!(out, "\n  {}  <{}>{}\n{}", field.name, field.holds, presence(field), wrap(&field.about, 4));
}

fn presence(field: &Field) -> &'static str {
    if field.optional { ", may be absent" } else { "" }
}

/// Words in lines.
fn wrap(text: &str, indent: usize) -> String {
    let margin = " ".repeat(indent);
    let (mut out, mut used) = (margin.clone(), indent);
    for word in text.split_whitespace() {
        if used > indent && used + 1 + width(word) > COLUMNS {
            out += "\n";
            out += &margin;
            used = indent;
        }
        if used > indent {
            out.push(' ');
            used += 1;
        }
        out += word;
        used += width(word);
    }
    out
}

/// The JSON schemas of what is asked and answered, pretty, with a line break at the end.
pub fn schema() -> String {
    let all = json!({
        "schema_version": SCHEMA_VERSION,
        "view": schema_for!(View),
        "question": schema_for!(Question),
        "answer": schema_for!(Answer),
        "order": schema_for!(Order),
    });
    format!("{all:#}\n")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_field_is_explained_in_its_own_words() {
        assert_eq!(explain("actor.depth").unwrap(), "actor.depth  <integer>\n  Messages that wait.\n");
        assert_eq!(explain("actors.mbox").unwrap(), explain("actor.depth").unwrap());
        assert_eq!(
            explain("actor.error.is_propagated").unwrap(),
            "actor.error.is_propagated  <boolean>\n  Whether it only passes on what happened elsewhere, as a node does that leaves because one of\n  its actors failed.\n"
        );
        assert!(explain("actor.handler").unwrap().starts_with("actor.handler  <string>, may be absent\n"));
        assert!(explain("rank.phases.compute").unwrap().contains("<number>"));
        assert!(explain("rank.state").unwrap().contains("One word"));
    }

    #[test]
    fn what_lies_in_a_field_is_listed() {
        let text = explain("actor.recent").unwrap();
        assert!(text.contains("<list of object>") && text.contains("  what  <string>\n    What.\n"), "{text}");
    }

    #[test]
    fn every_field_of_every_kind_is_documented() {
        for (kind, name, _) in KINDS {
            let text = explain(name).unwrap();
            for field in fields::particular(kind) {
                assert!(
                    !field.about.is_empty() && text.contains(&format!("\n  {}  <{}>", field.name, field.holds)),
                    "{name}.{}",
                    field.name
                );
                assert!(explain(&format!("{name}.{}", field.name)).is_ok());
            }
            assert!(text.lines().all(|line| width(line) <= 100), "{text}");
        }
        for group in ["item", "view"] {
            assert!(explain(group).unwrap().starts_with(group));
        }
        assert!(explain("view.scope").unwrap().contains("<one of run, node, store>"));
    }

    #[test]
    fn a_name_alone_is_sought_everywhere() {
        let text = explain("heard_age_ms").unwrap();
        assert!(text.contains("node.heard_age_ms") && text.contains("link.heard_age_ms"), "{text}");
        assert!(explain("matched").unwrap().starts_with("view.matched"));
    }

    #[test]
    fn names_that_nothing_has_are_refused_with_those_there_are() {
        let failure = explain("lane.dept").unwrap_err();
        assert_eq!(
            (failure.code, failure.sentence.as_str()),
            (ExitCode::NotFound, "lane has no field `dept`: it has busy_s, doing, lane, rank, step, wait_s")
        );
        for path in ["", ".", "pods", "actor.", "actor.depth.x", "actor..depth"] {
            assert_eq!(explain(path).unwrap_err().code, ExitCode::NotFound, "{path}");
        }
    }

    #[test]
    fn the_schema_is_one_object_that_tells_its_version() {
        let json: Value = serde_json::from_str(&schema()).unwrap();
        assert_eq!(json["schema_version"], SCHEMA_VERSION);
        for part in ["view", "question", "answer", "order"] {
            assert!(json[part]["description"].is_string(), "{part}");
        }
        assert!(json["view"]["$defs"]["ActorView"]["properties"]["depth"].is_object());
    }
}
