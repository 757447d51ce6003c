//! What people type to choose items or rows of other lists: kinds, filters, fields to sort by, limits, references.

use everstep_actors::desk::answer::choose;
use everstep_actors::desk::question::{Comparison, Condition, Kind, Question};
use everstep_actors::desk::view::Fields;

use super::fields::{self, Field};
use crate::cli::selection::Selection;
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
    shorthand::field(Rows::Items(&[kind]), name)
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

/// A list whose rows are no items, such as incidents.
#[derive(Debug, Clone)]
pub(crate) struct List {
    /// What its rows are called.
    pub(crate) name: &'static str,
    /// What they have.
    pub(crate) fields: Vec<Field>,
    /// Headings of its table that are not the names of their fields, in small letters.
    pub(crate) headings: &'static [(&'static str, &'static str)],
}

impl List {
    /// What is asked of it.
    ///
    /// # Errors
    /// [`ExitCode::Usage`]: a filter cannot be read, or names a field that no row has.
    pub(crate) fn question(&self, asked: &Selection) -> Result<Question, Failure> {
        Rows::Of(self).question(asked)
    }
}

/// What is asked of a run: kinds (all of them when empty), conditions, an order, a limit.
///
/// # Errors
/// [`ExitCode::Usage`]: a filter cannot be read, or names a field that no such item has.
pub fn question(kinds: &[Kind], asked: &Selection) -> Result<Question, Failure> {
    Ok(Question { kinds: kinds.to_vec(), ..Rows::Items(kinds).question(asked)? })
}

/// What a question chooses of rows that come in order of time: what is not sorted by something else stays so, and a limit leaves the
/// newest. Also counted is what the limit cut.
pub(crate) fn newest<T>(mut rows: Vec<T>, fields: impl Fn(&T) -> Fields, question: &Question) -> (Vec<T>, u64) {
    if question.sort.is_some() {
        return choose(rows, fields, question);
    }
    rows.reverse();
    let (mut rows, matched) = choose(rows, fields, question);
    rows.reverse();
    (rows, matched)
}

/// Refuses to sort what has no end.
///
/// # Errors
/// [`ExitCode::Usage`]: it is followed, and to be sorted.
pub(crate) fn sorts_what_ends(follow: bool, asked: &Selection) -> Result<(), Failure> {
    let sentence = "--sort needs all of them, and --follow goes on: leave one of the two out; what is followed comes in order of time";
    if follow && asked.sort.is_some() { Err(Failure::new(ExitCode::Usage, sentence)) } else { Ok(()) }
}

/// What people choose from.
#[derive(Debug, Clone, Copy)]
enum Rows<'a> {
    /// Items of these kinds; of all kinds when empty.
    Items(&'a [Kind]),
    /// Anything else.
    Of(&'a List),
}

impl Rows<'_> {
    fn question(self, asked: &Selection) -> Result<Question, Failure> {
        let filter = asked.filter.iter().map(|text| self.condition(text)).collect::<Result<Vec<_>, _>>()?;
        let sort = asked.sort.as_deref().map(|key| {
            let (name, minus) = key.strip_prefix('-').map_or((key, ""), |name| (name, "-"));
            Ok::<_, Failure>(format!("{minus}{}", self.known(name, "--sort")?))
        });
        Ok(Question { filter, sort: sort.transpose()?, limit: asked.limit, ..Question::default() })
    }

    /// One filter (`depth>=3`, `state!=idle`, `host~box`).
    fn condition(self, text: &str) -> Result<Condition, Failure> {
        let (field, is, value) = split(text).ok_or_else(|| {
            let sentence =
                format!("`--filter {text}` compares nothing: write FIELD, one of = != < <= > >= ~ and a value, as in 'depth>=3'");
            Failure::new(ExitCode::Usage, sentence)
        })?;
        let field = self.known(field, "--filter")?;
        let value = shorthand::value(self, &field, is, value);
        Ok(Condition { field, is, value })
    }

    /// The field that a name means.
    fn known(self, name: &str, option: &str) -> Result<String, Failure> {
        if let Some(field) = shorthand::field(self, name) {
            return Ok(field.into());
        }
        let sortable = |field: &Field| !field.within_list && field.name != "children";
        let has = |fields: &[Field]| fields::find(fields, name).is_some_and(|field| sortable(&field));
        let there = |rows: &str, fields: &[Field]| {
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            format!("{rows} have {}", names.join(", "))
        };
        let (found, all) = match self {
            Self::Of(list) => (has(&list.fields), there(list.name, &list.fields)),
            Self::Items(kinds) => {
                let kinds: Vec<Kind> = if kinds.is_empty() { KINDS.iter().map(|(kind, ..)| *kind).collect() } else { kinds.to_vec() };
                let common: Vec<Field> = fields::common().into_iter().filter(sortable).collect();
                let particular: Vec<(&str, Vec<Field>)> = kinds.iter().map(|kind| (plural(*kind), fields::particular(*kind))).collect();
                let sentences: Vec<String> = particular.iter().map(|(rows, fields)| there(rows, fields)).collect();
                let found = has(&common) || particular.iter().any(|(_, fields)| has(fields));
                (found, format!("{}; {}", sentences.join("; "), there("all", &common)))
            }
        };
        if found {
            return Ok(name.into());
        }
        Err(Failure::new(ExitCode::Usage, format!("there is no field `{name}` for {option}: {all}")))
    }
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn condition(kinds: &[Kind], text: &str) -> Result<Condition, Failure> {
        Rows::Items(kinds).condition(text)
    }

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
        let sort = Some("-dept".to_owned());
        let failure = question(&[Kind::Actor], &Selection { sort: sort.clone(), ..Selection::default() }).unwrap_err();
        assert!(failure.sentence.contains("`dept` for --sort"), "{failure}");
        assert!(condition(&[Kind::Actor], "recent.what=x").is_err(), "a list has no one value");
        assert!(condition(&[Kind::Actor], "children=x").is_err());
        let failure = rows().question(&Selection { sort, ..Selection::default() }).unwrap_err();
        assert_eq!(failure.sentence, "there is no field `dept` for --sort: rows have cost_s, number");
    }

    /// As incidents and the rows of `top` are made known.
    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is looked at")]
    struct Row {
        number: u32,
        cost_s: f64,
    }

    fn rows() -> List {
        List { name: "rows", fields: fields::of::<Row>(), headings: &[("cost", "cost_s")] }
    }

    #[test]
    fn other_lists_are_chosen_from_by_the_same_grammar() {
        let asked = Selection { filter: vec!["Cost>1.5min".into(), "number!=r3".into()], sort: Some("-cost".into()), limit: Some(2) };
        let question = rows().question(&asked).unwrap();
        let filters: Vec<(&str, &str)> = question.filter.iter().map(|one| (one.field.as_str(), one.value.as_str())).collect();
        assert_eq!(filters, [("cost_s", "90"), ("number", "r3")]);
        assert_eq!((question.sort.as_deref(), question.limit), (Some("-cost_s"), Some(2)));
        assert!(rows().question(&Selection { filter: vec!["cost".into()], ..Selection::default() }).is_err());
    }

    #[test]
    fn a_limit_leaves_the_newest_unless_rows_are_sorted_by_something_else() {
        let rows = [3, 1, 2].map(|number| json!({ "number": number }));
        let numbers = |question: Question| {
            let (rows, matched) = newest(rows.to_vec(), Fields::of, &question);
            (rows.iter().map(|row| row["number"].as_u64()).collect::<Option<Vec<_>>>().unwrap(), matched)
        };
        assert_eq!(numbers(Question { limit: Some(2), ..Question::default() }), (vec![1, 2], 3));
        assert_eq!(numbers(Question { limit: Some(2), sort: Some("number".into()), ..Question::default() }), (vec![1, 2], 3));
        assert_eq!(numbers(Question { limit: Some(1), sort: Some("-number".into()), ..Question::default() }), (vec![3], 3));
    }

    #[test]
    fn what_is_followed_is_not_sorted() {
        let sorted = Selection { sort: Some("at_ms".into()), ..Selection::default() };
        let failure = sorts_what_ends(true, &sorted).unwrap_err();
        assert!(failure.code == ExitCode::Usage && failure.sentence.contains("leave one of the two out"), "{failure}");
        assert_eq!((sorts_what_ends(false, &sorted), sorts_what_ends(true, &Selection::default())), (Ok(()), Ok(())));
    }

    #[test]
    fn fields_of_any_asked_kind_and_deep_ones_are_known() {
        assert!(condition(&[Kind::Node, Kind::Actor], "depth>3").is_ok());
        assert!(condition(&[], "phases.compute>0.5").is_ok());
        let asked = Selection { filter: vec!["state=silent".into()], sort: Some("-phases.compute".into()), limit: Some(3) };
        let asked = question(&[Kind::Rank], &asked).unwrap();
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
