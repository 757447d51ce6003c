//! What people type to choose items: kinds, filters, fields to sort by, references.

use everstep_actors::desk::question::{Comparison, Condition, Kind, Question};

use super::fields::{self, Field};
use crate::cli::{ExitCode, Failure};
pub use resolve::resolve;

mod resolve;
mod shorthand;

/// All kinds, with their names for one and for many.
pub(crate) const KINDS: [(Kind, &str, &str); 9] = [
    (Kind::Run, "run", "runs"),
    (Kind::Node, "node", "nodes"),
    (Kind::Rank, "rank", "ranks"),
    (Kind::Actor, "actor", "actors"),
    (Kind::Lane, "lane", "lanes"),
    (Kind::Shard, "shard", "shards"),
    (Kind::Checkpoint, "checkpoint", "checkpoints"),
    (Kind::Event, "event", "events"),
    (Kind::Link, "link", "links"),
];

/// The name of one item of a kind.
pub fn singular(kind: Kind) -> &'static str {
    KINDS.iter().find(|(known, ..)| *known == kind).map_or("item", |(_, one, _)| one)
}

/// The name of many items of a kind.
pub fn plural(kind: Kind) -> &'static str {
    KINDS.iter().find(|(known, ..)| *known == kind).map_or("items", |(.., many)| many)
}

/// The field that a heading of a kind's table stands for (`mbox` of actors: `depth`).
pub(crate) fn heading(kind: Kind, name: &str) -> Option<&'static str> {
    shorthand::field(&[kind], name)
}

/// The kind of a name for one or for many.
///
/// # Errors
/// One sentence that names the kinds there are.
pub fn kind(word: &str) -> Result<Kind, String> {
    let lower = word.to_ascii_lowercase();
    let known = KINDS.iter().find(|(_, one, many)| lower == *one || lower == *many);
    known.map(|(kind, ..)| *kind).ok_or_else(|| {
        let names: Vec<&str> = KINDS.iter().map(|(.., many)| *many).collect();
        format!("there are no `{word}`: use one of {}", names.join(", "))
    })
}

/// What is asked of a run: kinds (all of them when empty), conditions, an order, a limit.
///
/// # Errors
/// [`ExitCode::Usage`]: a filter cannot be read, or names a field that no such item has.
pub fn question(kinds: &[Kind], filters: &[String], sort: Option<&str>, limit: Option<u64>) -> Result<Question, Failure> {
    let filter = filters.iter().map(|text| condition(kinds, text)).collect::<Result<Vec<_>, _>>()?;
    let sort = sort.map(|key| {
        let (name, minus) = key.strip_prefix('-').map_or((key, ""), |name| (name, "-"));
        Ok::<_, Failure>(format!("{minus}{}", known(kinds, name, "--sort")?))
    });
    Ok(Question { kinds: kinds.to_vec(), filter, sort: sort.transpose()?, limit, ..Question::default() })
}

/// One filter (`depth>=3`, `state!=idle`, `host~box`) over items of these kinds.
///
/// # Errors
/// [`ExitCode::Usage`]: it cannot be read, or names a field that no such item has.
pub fn condition(kinds: &[Kind], text: &str) -> Result<Condition, Failure> {
    let (field, is, value) = split(text).ok_or_else(|| {
        let sentence = format!("`--filter {text}` compares nothing: write FIELD, one of = != < <= > >= ~ and a value, as in 'depth>=3'");
        Failure::new(ExitCode::Usage, sentence)
    })?;
    let field = known(kinds, field, "--filter")?;
    let value = shorthand::value(kinds, &field, is, value);
    Ok(Condition { field, is, value })
}

/// Field, comparison and value of a filter.
fn split(text: &str) -> Option<(&str, Comparison, &str)> {
    const SIGNS: [(&str, Comparison); 8] = [
        ("!=", Comparison::Unequal),
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("==", Comparison::Equal),
        ("=", Comparison::Equal),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
        ("~", Comparison::Contains),
    ];
    let at = text.find(['=', '!', '<', '>', '~'])?;
    let (field, rest) = text.split_at(at);
    let (value, is) = SIGNS.iter().find_map(|(sign, is)| Some((rest.strip_prefix(sign)?, *is)))?;
    let field = field.trim();
    (!field.is_empty()).then_some((field, is, value.trim()))
}

/// The field that a name means for any of these kinds.
fn known(kinds: &[Kind], name: &str, option: &str) -> Result<String, Failure> {
    let all: Vec<Kind> = KINDS.iter().map(|(kind, ..)| *kind).collect();
    let kinds = if kinds.is_empty() { &all } else { kinds };
    let sortable = |field: &Field| !field.within_list && field.name != "children";
    let common: Vec<Field> = fields::common().into_iter().filter(sortable).collect();
    if let Some(field) = shorthand::field(kinds, name) {
        return Ok(field.into());
    }
    let found = |kind: &Kind| fields::find(&fields::particular(*kind), name).is_some_and(|field| sortable(&field));
    if fields::find(&common, name).is_some() || kinds.iter().any(found) {
        return Ok(name.into());
    }
    let there = |kind: &Kind| {
        let particular = fields::particular(*kind).into_iter().map(|field| field.name);
        format!("{} have {}", plural(*kind), particular.collect::<Vec<_>>().join(", "))
    };
    let common: Vec<&str> = common.iter().map(|field| field.name.as_str()).collect();
    let which: Vec<String> = kinds.iter().map(there).collect();
    let sentence = format!("there is no field `{name}` for {option}: {}; all have {}", which.join("; "), common.join(", "));
    Err(Failure::new(ExitCode::Usage, sentence))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actors(text: &str) -> Condition {
        condition(&[Kind::Actor], text).unwrap()
    }

    #[test]
    fn every_sign_is_read() {
        let cases = [
            ("depth=3", Comparison::Equal),
            ("depth==3", Comparison::Equal),
            ("depth!=3", Comparison::Unequal),
            ("depth<3", Comparison::Less),
            ("depth<=3", Comparison::AtMost),
            ("depth > 3", Comparison::Greater),
            (" depth>= 3 ", Comparison::AtLeast),
            ("depth~3", Comparison::Contains),
        ];
        for (text, is) in cases {
            assert_eq!(actors(text), Condition { field: "depth".into(), is, value: "3".into() }, "{text}");
        }
        assert_eq!(actors("error.root_cause~a=b<c").value, "a=b<c");
        assert_eq!(actors("handler=").value, "");
    }

    #[test]
    fn what_compares_nothing_is_refused() {
        for text in ["depth", "", "=3", " >= 3", "!3", "depth!3"] {
            let failure = condition(&[Kind::Actor], text).unwrap_err();
            assert!(failure.code == ExitCode::Usage && failure.sentence.contains("compares nothing"), "{failure}");
        }
    }

    #[test]
    fn a_field_that_is_not_there_names_those_that_are() {
        let failure = condition(&[Kind::Lane], "dept>3").unwrap_err();
        assert_eq!(failure.code, ExitCode::Usage);
        for part in ["`dept`", "--filter", "lanes have busy_s, doing, lane, rank, step, wait_s", "all have as_of_ms, parent, reference"] {
            assert!(failure.sentence.contains(part), "{failure}");
        }
        let failure = question(&[Kind::Actor], &[], Some("-dept"), None).unwrap_err();
        assert!(failure.sentence.contains("`dept` for --sort"), "{failure}");
        assert!(condition(&[Kind::Actor], "recent.what=x").is_err(), "a list has no one value");
        assert!(condition(&[Kind::Actor], "children=x").is_err());
    }

    #[test]
    fn fields_of_any_asked_kind_and_deep_ones_are_known() {
        assert!(condition(&[Kind::Node, Kind::Actor], "depth>3").is_ok());
        assert!(condition(&[], "phases.compute>0.5").is_ok());
        let asked = question(&[Kind::Rank], &["state=silent".into()], Some("-phases.compute"), Some(3)).unwrap();
        assert_eq!((asked.sort.as_deref(), asked.limit, asked.filter.len()), (Some("-phases.compute"), Some(3), 1));
    }

    #[test]
    fn kinds_are_known_by_both_names() {
        assert_eq!(kind("checkpoints"), Ok(Kind::Checkpoint));
        assert_eq!(kind("Actor"), Ok(Kind::Actor));
        assert!(kind("pods").unwrap_err().contains("actors"));
        assert_eq!((singular(Kind::Link), plural(Kind::Link)), ("link", "links"));
    }
}
