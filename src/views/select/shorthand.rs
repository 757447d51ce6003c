//! Short ways to say fields and values: headings of tables, units, names without their kind.

use everstep_actors::desk::question::{Comparison, Kind};

use super::Rows;
use crate::views::human::is_moment;

/// Headings of the tables that are not the names of their fields.
const HEADINGS: [(Kind, &str, &str); 30] = [
    (Kind::Actor, "actor", "name"),
    (Kind::Actor, "kind", "actor_kind"),
    (Kind::Actor, "mbox", "depth"),
    (Kind::Actor, "mailbox", "depth"),
    (Kind::Actor, "hwm", "high_water"),
    (Kind::Actor, "oldest", "oldest_ms"),
    (Kind::Actor, "msgs", "handled"),
    (Kind::Actor, "last-err", "error.message"),
    (Kind::Node, "heard", "heard_age_ms"),
    (Kind::Node, "rss", "resident_bytes"),
    (Kind::Node, "cpu", "cpu_s"),
    (Kind::Node, "files", "open_files"),
    (Kind::Rank, "data", "phases.data"),
    (Kind::Rank, "compute", "phases.compute"),
    (Kind::Rank, "exchange", "phases.exchange"),
    (Kind::Rank, "update", "phases.update"),
    (Kind::Rank, "vote", "phases.vote"),
    (Kind::Rank, "owned", "owned_bytes"),
    (Kind::Lane, "busy", "busy_s"),
    (Kind::Lane, "wait", "wait_s"),
    (Kind::Checkpoint, "took", "seconds"),
    (Kind::Checkpoint, "stall", "stall_ms"),
    (Kind::Event, "time", "at_ms"),
    (Kind::Event, "sev", "severity"),
    (Kind::Link, "rtt", "rtt_ms"),
    (Kind::Link, "heard", "heard_age_ms"),
    (Kind::Link, "patience", "patience_ms"),
    (Kind::Link, "sent", "sent_bytes"),
    (Kind::Link, "received", "received_bytes"),
    (Kind::Link, "lost", "lost_packets"),
];

/// The field that a heading of one table stands for.
pub(super) fn field(rows: Rows<'_>, heading: &str) -> Option<&'static str> {
    let heading = heading.to_ascii_lowercase();
    match rows {
        Rows::Items([kind]) => HEADINGS.iter().find(|(of, name, _)| of == kind && *name == heading).map(|(.., field)| *field),
        // A heading belongs to one table, and these are several.
        Rows::Items(_) => None,
        Rows::Of(list) => list.headings.iter().find(|(name, _)| *name == heading).map(|(_, field)| *field),
    }
}

/// The value that a field is compared with: `1.5GB` in bytes, `2min` in the field's unit of time, a node's or rank's name as a reference.
pub(super) fn value(rows: Rows<'_>, field: &str, is: Comparison, text: &str) -> String {
    if matches!(is, Comparison::Contains) || text.is_empty() {
        return text.to_owned();
    }
    let name = field.rsplit('.').next().unwrap_or(field);
    let scaled = if name.ends_with("bytes") {
        scaled(text, &BYTES)
    } else if name.ends_with("_ms") && !is_moment(name) {
        scaled(text, &TIMES)
    } else if name.ends_with("_s") || name == "seconds" {
        scaled(text, &TIMES).map(|ms| ms / 1e3)
    } else {
        None
    };
    if let Some(scaled) = scaled {
        return scaled.to_string();
    }
    // Only items name each other by references.
    let Rows::Items(kinds) = rows else { return text.to_owned() };
    match name {
        "node" | "from" | "to" | "leader" | "recorded_by" if !text.contains('/') => format!("node/{text}"),
        "owner" => rank(text),
        "rank" if kinds == [Kind::Lane] => rank(text),
        _ => text.to_owned(),
    }
}

fn rank(text: &str) -> String {
    let number = text.strip_prefix('r').unwrap_or(text);
    if number.parse::<u32>().is_ok() { format!("rank/{number}") } else { text.to_owned() }
}

const BYTES: [(&str, f64); 9] = [
    ("KiB", 1024.0),
    ("MiB", 1_048_576.0),
    ("GiB", 1_073_741_824.0),
    ("kB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
    ("TB", 1e12),
    ("PB", 1e15),
    ("B", 1.0),
];

const TIMES: [(&str, f64); 7] = [("ms", 1.0), ("min", 6e4), ("s", 1e3), ("sec", 1e3), ("m", 6e4), ("h", 3.6e6), ("d", 8.64e7)];

/// A number with one of these units; `None` for anything else, plain numbers included.
fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let start = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(start);
    let (_, factor) = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit))?;
    number.trim().parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(kind: Kind, text: &str) -> (String, String) {
        let condition = Rows::Items(&[kind]).condition(text).unwrap();
        (condition.field, condition.value)
    }

    fn means(kind: Kind, text: &str, field: &str, value: &str) {
        assert_eq!(said(kind, text), (field.to_owned(), value.to_owned()), "{text}");
    }

    #[test]
    fn headings_stand_for_their_fields() {
        means(Kind::Actor, "MBOX>3", "depth", "3");
        means(Kind::Actor, "kind=loader", "actor_kind", "loader");
        means(Kind::Node, "kind=node", "kind", "node");
        means(Kind::Rank, "compute>0.5", "phases.compute", "0.5");
        assert!(Rows::Items(&[Kind::Node, Kind::Actor]).condition("mbox>3").is_err(), "a heading belongs to one table");
        for (kind, heading, field) in HEADINGS {
            means(kind, &format!("{heading}=x"), field, "x");
        }
    }

    #[test]
    fn units_become_those_of_the_field() {
        means(Kind::Node, "rss>1.5GB", "resident_bytes", "1500000000");
        means(Kind::Node, "resident_bytes>1GiB", "resident_bytes", "1073741824");
        means(Kind::Actor, "oldest>2 min", "oldest_ms", "120000");
        means(Kind::Checkpoint, "took>1500ms", "seconds", "1.5");
        means(Kind::Actor, "oldest_ms>20", "oldest_ms", "20");
        means(Kind::Actor, "oldest_ms>soon", "oldest_ms", "soon");
        means(Kind::Actor, "since_ms>5s", "since_ms", "5s");
    }

    #[test]
    fn nodes_and_ranks_need_no_kind() {
        means(Kind::Actor, "node=n0a1b2c3d", "node", "node/n0a1b2c3d");
        means(Kind::Actor, "node=node/n0a1b2c3d", "node", "node/n0a1b2c3d");
        means(Kind::Actor, "node~0a1b", "node", "0a1b");
        means(Kind::Lane, "rank=r3", "rank", "rank/3");
        means(Kind::Shard, "owner=rank/3", "owner", "rank/3");
        means(Kind::Node, "rank=3", "rank", "3");
    }
}
