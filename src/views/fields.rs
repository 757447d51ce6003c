//! The fields that items have, as their own documentation tells: read from the JSON schema of the read model.

use everstep_actors::desk::question::Kind;
use everstep_actors::desk::view::{
    ActorView, CheckpointView, EventView, Item, LaneView, LinkView, NodeView, RankView, RunView, ShardView, View,
};
use schemars::{JsonSchema, schema_for};
use serde_json::Value;

/// A field and what its documentation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Field {
    /// Its name within what it belongs to.
    pub(crate) name: String,
    /// What it holds (`integer`, `map of number`, …).
    pub(crate) holds: String,
    /// Its documentation.
    pub(crate) about: String,
    /// Whether it may be absent.
    pub(crate) optional: bool,
    /// Whether a list lies on the way to it, so that it has no one value.
    pub(crate) within_list: bool,
    /// What lies in it.
    pub(crate) inner: Vec<Self>,
}

impl Field {
    /// One of which nothing but the name is known.
    pub(crate) fn any(name: &str) -> Self {
        let (name, holds) = (name.to_owned(), "any".to_owned());
        Self { name, holds, about: String::new(), optional: true, within_list: false, inner: Vec::new() }
    }
}

/// What a kind is, in one sentence.
pub(crate) fn about(kind: Kind) -> String {
    described(&schema(kind))
}

/// What is particular to a kind, by name.
pub(crate) fn particular(kind: Kind) -> Vec<Field> {
    let root = schema(kind);
    members(&root, &root, false)
}

/// The fields of a row that is no item.
pub(crate) fn of<T: JsonSchema>() -> Vec<Field> {
    let root = schema_for!(T).to_value();
    members(&root, &root, false)
}

/// What every item has, whatever its kind.
pub(crate) fn common() -> Vec<Field> {
    let mut fields = of::<Item>();
    let about = "What it is: `run`, `node`, `rank`, `actor`, `lane`, `shard`, `checkpoint`, `event` or `link`.".into();
    fields.push(Field { name: "kind".into(), holds: "string".into(), about, optional: false, within_list: false, inner: Vec::new() });
    fields
}

/// What an answer has around its items.
pub(crate) fn around() -> Vec<Field> {
    let mut fields = of::<View>();
    fields.iter_mut().filter(|field| field.name == "items").for_each(|items| items.inner.clear());
    fields
}

/// The field of a path (`depth`, `error.root_cause`, `phases.compute`), if it is one of these or lies in one.
pub(crate) fn find(fields: &[Field], path: &str) -> Option<Field> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let field = fields.iter().find(|field| field.name == name)?;
    match rest {
        None => Some(field.clone()),
        Some("") => None,
        // The keys of a map are not known beforehand.
        Some(key) if field.holds.starts_with("map of ") && !key.contains('.') => {
            let holds = field.holds.trim_start_matches("map of ").to_owned();
            Some(Field { name: key.into(), holds, optional: true, inner: Vec::new(), ..field.clone() })
        }
        Some(rest) => find(&field.inner, rest),
    }
}

fn schema(kind: Kind) -> Value {
    let schema = match kind {
        Kind::Run => schema_for!(RunView),
        Kind::Node => schema_for!(NodeView),
        Kind::Rank => schema_for!(RankView),
        Kind::Actor => schema_for!(ActorView),
        Kind::Lane => schema_for!(LaneView),
        Kind::Shard => schema_for!(ShardView),
        Kind::Checkpoint => schema_for!(CheckpointView),
        Kind::Event => schema_for!(EventView),
        Kind::Link => schema_for!(LinkView),
    };
    schema.to_value()
}

fn described(schema: &Value) -> String {
    schema["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn members(root: &Value, object: &Value, within_list: bool) -> Vec<Field> {
    let properties = object["properties"].as_object().into_iter().flatten();
    let mut fields: Vec<Field> = properties.map(|(name, schema)| field(root, name, schema, within_list)).collect();
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    fields
}

fn field(root: &Value, name: &str, schema: &Value, within_list: bool) -> Field {
    let (target, optional) = target(root, schema);
    let is_list = target["type"] == "array";
    let element = if is_list { self::target(root, &target["items"]).0 } else { target };
    let about = if schema["description"].is_string() { described(schema) } else { described(target) };
    let inner = members(root, element, within_list || is_list);
    Field { name: name.into(), holds: holds(root, schema), about, optional, within_list, inner }
}

/// What a schema refers to, and whether nothing may stand in its place.
fn target<'a>(root: &'a Value, schema: &'a Value) -> (&'a Value, bool) {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return (target(root, &root["$defs"][name]).0, false);
    }
    if let Some(one) = schema["anyOf"].as_array().and_then(|all| all.iter().find(|one| one["type"] != "null")) {
        return (target(root, one).0, true);
    }
    (schema, schema["type"].as_array().is_some_and(|types| types.iter().any(|one| one == "null")))
}

fn holds(root: &Value, schema: &Value) -> String {
    let (target, _) = target(root, schema);
    let name =
        target["type"].as_str().or_else(|| target["type"].as_array()?.iter().find_map(|one| one.as_str().filter(|one| *one != "null")));
    match name {
        Some("array") if target["prefixItems"].is_array() => {
            let parts: Vec<String> = target["prefixItems"].as_array().into_iter().flatten().map(|part| holds(root, part)).collect();
            format!("pair of {}", parts.join(" and "))
        }
        Some("array") => format!("list of {}", holds(root, &target["items"])),
        Some("object") if target["additionalProperties"].is_object() => format!("map of {}", holds(root, &target["additionalProperties"])),
        Some(name) => name.to_owned(),
        // One of a few words, each with its own documentation.
        None if target["oneOf"].is_array() => {
            let words = target["oneOf"].as_array().into_iter().flatten().filter_map(|one| one["const"].as_str());
            let words: Vec<&str> = words.collect();
            if words.is_empty() { "object".into() } else { format!("one of {}", words.join(", ")) }
        }
        None => "any".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_those_of_the_documentation() {
        let depth = find(&particular(Kind::Actor), "depth").unwrap();
        assert_eq!((depth.holds.as_str(), depth.about.as_str(), depth.optional), ("integer", "Messages that wait.", false));
        let error = find(&particular(Kind::Actor), "error").unwrap();
        assert_eq!(
            (error.holds.as_str(), error.about.as_str(), error.optional),
            ("object", "Its last failure: in state `failed` the one that ended it, and for which its node leaves the run.", true)
        );
        assert!(find(&particular(Kind::Actor), "handler").unwrap().optional);
        assert_eq!(find(&particular(Kind::Actor), "error.root_cause").unwrap().about, "The first cause of it, one sentence.");
        assert_eq!(about(Kind::Actor), "An actor.");
    }

    #[test]
    fn maps_have_any_key_and_lists_no_one_value() {
        let rank = particular(Kind::Rank);
        assert_eq!(find(&rank, "phases.compute").unwrap().holds, "number");
        assert_eq!(find(&rank, "phases").unwrap().holds, "map of number");
        assert_eq!(find(&rank, "lanes").unwrap().holds, "pair of integer and integer");
        assert!(find(&rank, "phases.a.b").is_none() && find(&rank, "phases.").is_none() && find(&rank, "step.x").is_none());
        assert!(find(&particular(Kind::Actor), "recent.what").unwrap().within_list);
    }

    #[test]
    fn what_is_around_and_what_all_have_is_known() {
        assert_eq!(find(&around(), "scope").unwrap().holds, "one of run, node, store");
        let names: Vec<String> = common().into_iter().map(|field| field.name).collect();
        assert_eq!(names, ["as_of_ms", "children", "parent", "reference", "since_ms", "state", "kind"]);
    }
}
