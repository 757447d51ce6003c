//! The text as a strict reader takes it.

use std::collections::{BTreeMap, BTreeSet};

use everstep_actors::desk::view::Properties;

use super::*;
use crate::dashboard::tests::fake::{FakeEye, HOSTILE};

/// What a strict reader made of a text: types of families, and samples by name and labels.
#[derive(Debug, Default)]
struct Read {
    types: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
    labels: BTreeMap<String, BTreeSet<String>>,
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Reads labels after `{`; gives their names with values, and what follows `}`.
fn labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let (name, after) = rest.split_once("=\"").expect("a label has a quoted value");
        assert!(is_name(name), "{name}");
        let mut value = String::new();
        let mut chars = after.char_indices();
        let end = loop {
            match chars.next().expect("the value ends") {
                (_, '\\') => match chars.next().expect("an escape is whole").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("no escape: {c}"),
                },
                (at, '"') => break at,
                (_, c) => value.push(c),
            }
        };
        found.push((name.to_owned(), value));
        let after = &after[end + 1..];
        match after.split_at(1) {
            (",", more) => rest = more,
            ("}", more) => return (found, more),
            _ => panic!("neither , nor }} in {after}"),
        }
    }
}

/// Panics at whatever Prometheus would not take, and at what its conventions forbid.
fn read(text: &str) -> Read {
    let mut read = Read::default();
    let (mut helped, mut family) = (BTreeSet::new(), String::new());
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, _) = help.split_once(' ').expect("help has a text");
            assert!(is_name(name) && helped.insert(name.to_owned()), "{name} twice");
            family = name.to_owned();
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(name, family, "TYPE follows HELP");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(read.types.insert(name.to_owned(), kind.to_owned()).is_none());
        } else {
            let at = line.find(['{', ' ']).expect("a sample has a value");
            let (name, rest) = line.split_at(at);
            let (labels, value) = rest.strip_prefix('{').map_or_else(|| (Vec::new(), rest), labels);
            let base = ["_bucket", "_sum", "_count"].into_iter().find_map(|end| name.strip_suffix(end)).filter(|base| *base == family);
            assert_eq!(base.unwrap_or(name), family, "samples of a family stand together");
            assert!(base.is_none() || read.types[&family] == "histogram");
            let value: f64 = value.strip_prefix(' ').and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("no number in {line}"));
            for (label, word) in &labels {
                read.labels.entry(label.clone()).or_default().insert(word.clone());
            }
            let key = if labels.is_empty() { name.to_owned() } else { format!("{name}{labels:?}") };
            assert!(read.samples.insert(key, value).is_none(), "{line} twice");
        }
    }
    read
}

fn view(ranks: u32) -> (View, Vec<Recorded>) {
    let eye = FakeEye::new(ranks, 1_800_000_000_000);
    let items = eye.items();
    let scope = everstep_actors::desk::view::Scope::Run;
    let view = View { schema_version: 1, answered_by: String::new(), scope, as_of_ms: eye.now_ms, missing: Vec::new(), matched: 0, items };
    (view, eye.recorded())
}

#[test]
fn a_strict_reader_takes_the_text_and_finds_the_numbers() {
    let (view, events) = view(4);
    let read = read(&text(&view, &events));
    for (name, value) in [
        ("everstep_step", 412.0),
        ("everstep_epoch", 3.0),
        ("everstep_progress_age_seconds", 0.74),
        ("everstep_step_duration_seconds_count", 412.0),
        ("everstep_step_duration_seconds_sum", 620.5),
        ("everstep_step_duration_seconds_bucket[(\"le\", \"+Inf\")]", 412.0),
        ("everstep_phase_duration_seconds[(\"phase\", \"compute\")]", 0.98),
        ("everstep_members[(\"state\", \"silent\")]", 1.0),
        ("everstep_members[(\"state\", \"draining\")]", 0.0),
        ("everstep_mailbox_depth[(\"actor_kind\", \"loader\")]", 61.0),
        ("everstep_mailbox_oldest_message_seconds[(\"actor_kind\", \"loader\")]", 8.2),
        ("everstep_actor_failures[(\"actor_kind\", \"loader\")]", 1.0),
        ("everstep_quic_rtt_seconds", 0.00125),
        ("everstep_quic_lost_packets_total", 12.0),
        ("everstep_quic_bytes_total[(\"direction\", \"sent\")]", 4000.0),
        ("everstep_reconfigurations_total[(\"reason\", \"start\")]", 1.0),
        ("everstep_reconfigurations_total[(\"reason\", \"joined\")]", 1.0),
        ("everstep_reconfigurations_total[(\"reason\", \"left\")]", 1.0),
        ("everstep_checkpoint_step", 400.0),
        ("everstep_checkpoint_failures_total", 1.0),
        ("everstep_skipped_steps_total", 1.0),
    ] {
        assert_eq!(read.samples.get(name), Some(&value), "{name} in {:#?}", read.samples);
    }
    assert!((18.0..20.0).contains(&read.samples["everstep_checkpoint_age_seconds"]));
}

#[test]
fn the_number_of_series_does_not_grow_with_the_run() {
    let series = |ranks| {
        let (view, events) = view(ranks);
        read(&text(&view, &events)).samples.len()
    };
    assert_eq!(series(4), series(500));
}

#[test]
fn labels_are_escaped_and_bounded_whatever_nodes_tell() {
    let (mut view, events) = view(60);
    for (at, item) in view.items.iter_mut().enumerate() {
        item.state = format!("{HOSTILE}\n\\\"{at}");
        if let Properties::Actor(actor) = &mut item.properties {
            actor.actor_kind = format!("kind \"{at}\"\n\\");
        }
    }
    let read = read(&text(&view, &events));
    assert!(read.labels["actor_kind"].len() <= 33, "{}", read.labels["actor_kind"].len());
    assert!(read.labels["actor_kind"].iter().any(|kind| kind.ends_with("\"\n\\")));
    assert_eq!(read.labels["state"].len(), 8);
    let bounded = ["actor_kind", "direction", "le", "phase", "reason", "schema_version", "state", "version"];
    assert_eq!(read.labels.keys().collect::<Vec<_>>(), bounded);
}

#[test]
fn a_store_that_knows_nothing_still_gives_a_text() {
    let scope = everstep_actors::desk::view::Scope::Store;
    let view =
        View { schema_version: 1, answered_by: String::new(), scope, as_of_ms: 0, missing: Vec::new(), matched: 0, items: Vec::new() };
    let read = read(&text(&view, &[]));
    assert!(!read.samples.contains_key("everstep_step") && !read.samples.contains_key("everstep_checkpoint_age_seconds"));
}

#[test]
fn the_board_names_only_metrics_that_are_there() {
    let board: serde_json::Value = serde_json::from_str(include_str!("../../configs/grafana.json")).unwrap();
    let (view, events) = view(4);
    let read = read(&text(&view, &events));
    let known = |name: &str| {
        read.types.contains_key(name)
            || ["_bucket", "_sum", "_count"].iter().any(|end| name.strip_suffix(end).is_some_and(|base| read.types.contains_key(base)))
    };
    let mut named = BTreeSet::new();
    for panel in board["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("everstep_"));
            named.extend(words.map(str::to_owned));
            assert_eq!(target["datasource"]["uid"], "${datasource}");
        }
    }
    let unknown: Vec<&String> = named.iter().filter(|name| !known(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
    assert!(named.len() > 20, "{}", named.len());
}

#[tokio::test]
async fn the_command_prints_the_same_families_and_asks_many_nodes_for_no_links() {
    for (ranks, links) in [(4, true), (150, false)] {
        let mut out = Vec::new();
        let eye = FakeEye::new(ranks, 1_800_000_000_000);
        crate::commands::metrics::run(&crate::cli::metrics::MetricsArgs {}, &eye, &mut out).await.unwrap();
        let read = read(&String::from_utf8(out).unwrap());
        assert_eq!(read.types.contains_key("everstep_quic_rtt_seconds"), links);
        assert!(read.types.contains_key("everstep_mailbox_depth"));
    }
}
