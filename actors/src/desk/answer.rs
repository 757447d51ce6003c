//! What a question leaves of the items: kinds, place, conditions, order, and only then a limit.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::question::{Comparison, Condition, Question};
use super::view::{Fields, Item};

/// Keeps the items that match, in the order asked for, and counts them before the limit cuts.
pub fn select(mut items: Vec<Item>, question: &Question) -> (Vec<Item>, u64) {
    if let Some(root) = &question.under {
        let inside = under(&items, root);
        items.retain(|item| inside.contains(&item.reference));
    }
    items.retain(|item| question.kinds.is_empty() || question.kinds.contains(&item.kind()));
    items.sort_by(|a, b| natural(&a.reference, &b.reference));
    choose(items, Item::fields, question)
}

/// Keeps the rows, items or not, for which a question's conditions hold, in the order that it asks for, and counts them before its
/// limit cuts. Rows that are alike in what they are sorted by, or not sorted, stay as they come.
pub fn choose<T>(mut rows: Vec<T>, fields: impl Fn(&T) -> Fields, question: &Question) -> (Vec<T>, u64) {
    if !question.filter.is_empty() {
        rows.retain(|row| {
            let fields = fields(row);
            question.filter.iter().all(|condition| holds(&fields, condition))
        });
    }
    if let Some(key) = &question.sort {
        let (name, reverse) = key.strip_prefix('-').map_or((key.as_str(), false), |name| (name, true));
        let key = |row: &T| fields(row).get(name).cloned().unwrap_or_default();
        let mut keyed: Vec<(Value, T)> = rows.into_iter().map(|row| (key(&row), row)).collect();
        keyed.sort_by(|(a, _), (b, _)| if reverse { compare(b, a) } else { compare(a, b) });
        rows = keyed.into_iter().map(|(_, row)| row).collect();
    }
    let matched = rows.len() as u64;
    if let Some(limit) = question.limit {
        rows.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    }
    (rows, matched)
}

/// References of an item and of what belongs to it, however deep.
pub fn under(items: &[Item], root: &str) -> BTreeSet<String> {
    let mut children: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for item in items {
        children.entry(&item.parent).or_default().push(&item.reference);
        // A rank belongs to the run and lies on a node: either way down leads to it.
        for child in &item.children {
            children.entry(&item.reference).or_default().push(child);
        }
    }
    let (mut inside, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(reference) = open.pop() {
        if inside.insert(reference.to_owned()) {
            open.extend(children.get(reference).into_iter().flatten());
        }
    }
    inside
}

fn holds(fields: &Fields, condition: &Condition) -> bool {
    let Some(value) = fields.get(&condition.field) else { return false };
    let text = text(value);
    let numbers = number(value).zip(condition.value.parse::<f64>().ok());
    let order = numbers.map_or_else(|| Some(text.as_str().cmp(condition.value.as_str())), |(a, b)| a.partial_cmp(&b));
    match condition.is {
        Comparison::Equal => order == Some(Ordering::Equal),
        Comparison::Unequal => order != Some(Ordering::Equal),
        Comparison::Less => order == Some(Ordering::Less),
        Comparison::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        Comparison::Greater => order == Some(Ordering::Greater),
        Comparison::AtLeast => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        Comparison::Contains => text.contains(&condition.value),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::Bool(_) | Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn compare(a: &Value, b: &Value) -> Ordering {
    match (number(a), number(b)) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        _ => natural(&text(a), &text(b)),
    }
}

/// Digits within names count as numbers: `rank/9` comes before `rank/10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let (x, y) = (digits(a), digits(b));
        if x > 0 && y > 0 {
            let (left, right) = (a[..x].trim_start_matches('0'), b[..y].trim_start_matches('0'));
            let order = left.len().cmp(&right.len()).then_with(|| left.cmp(right));
            if order != Ordering::Equal {
                return order;
            }
            (a, b) = (&a[x..], &b[y..]);
        } else {
            match (a.chars().next(), b.chars().next()) {
                (Some(left), Some(right)) if left == right => (a, b) = (&a[left.len_utf8()..], &b[right.len_utf8()..]),
                (left, right) => return left.cmp(&right),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::question::Kind;
    use super::super::view::{ActorView, NodeView, Properties};
    use super::*;

    fn item(reference: &str, parent: &str, properties: Properties) -> Item {
        let (reference, parent) = (reference.into(), parent.into());
        Item { reference, parent, children: Vec::new(), state: "up".into(), since_ms: 0, as_of_ms: 0, properties }
    }

    fn items() -> Vec<Item> {
        let node = |n: u32| item(&format!("node/{n}"), "run", Properties::Node(NodeView { pid: n, ..NodeView::default() }));
        let actor = |n: u32| {
            let view = ActorView { depth: u64::from(n), actor_kind: "link".into(), ..ActorView::default() };
            item(&format!("actor/{n}/link"), &format!("node/{n}"), Properties::Actor(view))
        };
        [10, 9, 1].into_iter().flat_map(|n| [node(n), actor(n)]).collect()
    }

    fn names(question: &Question) -> Vec<String> {
        select(items(), question).0.into_iter().map(|item| item.reference).collect()
    }

    #[test]
    fn filters_hold_before_limits_and_what_was_cut_is_counted() {
        let filter = vec![Condition { field: "depth".into(), is: Comparison::AtLeast, value: "9".into() }];
        let question = Question { kinds: vec![Kind::Actor], filter, sort: Some("-depth".into()), limit: Some(1), ..Question::default() };
        let (kept, matched) = select(items(), &question);
        assert_eq!((kept.len(), kept[0].reference.as_str(), matched), (1, "actor/10/link", 2));
    }

    #[test]
    fn numbers_in_names_are_numbers() {
        assert_eq!(names(&Question { kinds: vec![Kind::Node], ..Question::default() }), ["node/1", "node/9", "node/10"]);
        assert_eq!(natural("a007", "a7"), Ordering::Equal);
        assert_eq!(natural("18446744073709551616", "18446744073709551617"), Ordering::Less);
    }

    #[test]
    fn what_lies_under_a_reference_is_found_however_deep() {
        assert_eq!(names(&Question { under: Some("node/9".into()), ..Question::default() }), ["actor/9/link", "node/9"]);
        assert_eq!(names(&Question { under: Some("run".into()), ..Question::default() }).len(), 6);
    }

    #[test]
    fn rows_that_are_no_items_are_chosen_alike_and_those_that_are_alike_stay_in_order() {
        let rows = vec![json!({"kind": "loss", "cost": {"s": 2}}), json!({"kind": "wait", "cost": {"s": 9}}), json!({"kind": "loss"})];
        let chosen = |question: Question| choose(rows.clone(), Fields::of, &question);
        let filter = vec![Condition { field: "kind".into(), is: Comparison::Equal, value: "loss".into() }];
        let sort = Some("-cost.s".to_owned());
        assert_eq!(chosen(Question { filter, ..Question::default() }), (vec![rows[0].clone(), rows[2].clone()], 2));
        let (kept, matched) = chosen(Question { sort, limit: Some(2), ..Question::default() });
        assert_eq!((kept, matched), (vec![rows[1].clone(), rows[0].clone()], 3), "what has no such field is the smallest");
        let alike = choose(items(), Item::fields, &Question { sort: Some("-state".into()), ..Question::default() }).0;
        assert_eq!(alike, items(), "not sorted by name");
    }

    #[test]
    fn a_field_that_is_not_there_matches_nothing() {
        let filter = vec![Condition { field: "no_such".into(), is: Comparison::Unequal, value: "1".into() }];
        assert!(names(&Question { filter, ..Question::default() }).is_empty());
    }
}
