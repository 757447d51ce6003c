//! Which items are wanted. Filters hold before limits, and what a limit cut is counted.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A question to a node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Question {
    /// Only this node's own items: the leader asks nobody else.
    pub own: bool,
    /// Kinds of items; all of them when empty.
    pub kinds: Vec<Kind>,
    /// Only the item of this reference and what belongs to it, however deep.
    pub under: Option<String>,
    /// Only items for which all of these hold.
    pub filter: Vec<Condition>,
    /// The field to sort by, with `-` in front for the greatest first; by reference when absent.
    pub sort: Option<String>,
    /// How many items at most.
    pub limit: Option<u64>,
    /// How old an answer may be that others were given before, milliseconds: up to a second, and half of one when absent. Its
    /// `as_of_ms` says how old it is.
    #[serde(default)]
    pub at_most_ms: Option<u64>,
}

/// A kind of item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the kinds of `Properties`")]
pub enum Kind {
    Run,
    Node,
    Rank,
    Actor,
    Lane,
    Shard,
    Checkpoint,
    Event,
    Link,
}

/// A field of an item compared with a value: numbers as numbers, everything else as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// `state`, `reference`, or a field of the item's properties.
    pub field: String,
    /// How.
    pub is: Comparison,
    /// With what.
    pub value: String,
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// `=`
    Equal,
    /// `!=`
    Unequal,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `~`: the text contains the value.
    Contains,
}
