//! Two recipes side by side: what differs, and what of it decides the mathematics.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Recipe;

/// Keys (and all below them) that may change when a run goes on: they decide where, when and how fast, never what is computed.
const FREE: [&str; 21] = [
    "cluster.ranks",
    "cluster.ranks_min",
    "cluster.ranks_max",
    "cluster.replicas",
    "cluster.mixed_hardware",
    "cluster.restart",
    "cluster.host",
    "cluster.zone",
    "cluster.bind",
    "cluster.advertise",
    "checkpoint",
    "eval",
    "memory",
    "preemption",
    "audit",
    "guard.on_bad_step",
    "guard.bad_steps_max",
    "device.loader_threads",
    "data.cache",
    "data.test",
    "data.bad_share_max",
];

/// A key that two recipes give different values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The full key (`section.key`).
    pub key: String,
    /// Its value in the first recipe; `None` where it has none.
    pub old: Option<String>,
    /// Its value in the second recipe.
    pub new: Option<String>,
}

impl Difference {
    /// Whether the run can go on with the new value.
    pub fn allowed(&self) -> bool {
        may_differ(&self.key)
    }
}

/// Whether a key may change when a run goes on.
pub fn may_differ(key: &str) -> bool {
    FREE.iter().any(|free| key.strip_prefix(free).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}

/// All keys in which two recipes differ, in order of the key.
pub fn differences(old: &Recipe, new: &Recipe) -> Vec<Difference> {
    let (old, new) = (flat(old), flat(new));
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let changed = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    changed.map(|key| Difference { key: key.clone(), old: old.get(key).cloned(), new: new.get(key).cloned() }).collect()
}

/// BLAKE3 over the keys that decide the mathematics, sorted, one `key=value` a line.
pub(super) fn digest(recipe: &Recipe) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("everstep recipe 1");
    for (key, value) in flat(recipe).iter().filter(|(key, _)| !may_differ(key)) {
        hasher.update(format!("{key}={value}\n").as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

fn flat(recipe: &Recipe) -> BTreeMap<String, String> {
    let mut keys = BTreeMap::new();
    let value = serde_json::to_value(recipe).expect("a recipe holds only numbers, texts, lists and tables with text keys");
    collect("", &value, &mut keys);
    keys
}

fn collect(key: &str, value: &Value, keys: &mut BTreeMap<String, String>) {
    let below = |name: &str| if key.is_empty() { name.to_owned() } else { format!("{key}.{name}") };
    match value {
        Value::Null => {}
        Value::Object(map) => map.iter().for_each(|(name, value)| collect(&below(name), value, keys)),
        Value::Array(items) if items.iter().any(Value::is_object) => {
            items.iter().enumerate().for_each(|(index, value)| collect(&below(&index.to_string()), value, keys));
        }
        scalar => {
            keys.insert(key.to_owned(), scalar.to_string());
        }
    }
}
