//! Descriptions of every kind, and of many at once.

use super::*;
use crate::views::human::width;
use crate::views::sample::{NOW, id, view};
use crate::views::select::resolve;

fn told(reference: &str) -> String {
    let view = view(4);
    describe(&view, resolve(&view, reference).unwrap())
}

fn has(text: &str, label: &str, value: &str) {
    let found = text.lines().any(|line| line.trim_start().starts_with(label) && line.ends_with(value));
    assert!(found, "{label} … {value}\n{text}");
}

#[test]
fn an_actor_shows_mailbox_handler_error_and_what_it_did() {
    let text = told("actor/r1/loader");
    has(&text, "state", "failed, since 2026-11-28 02:12:48 UTC (1 min 15 s ago)");
    has(&text, "belongs to", &format!("node/{}", id(1)));
    has(&text, "waiting", "0 of 64 messages, at most 12 so far");
    has(&text, "oldest", "no message waits");
    has(&text, "root cause", "shard-007.tar cannot be read: No space left on device");
    has(&text, "which lies at", &format!("actor/{}/store", id(1)));
    assert!(text.contains("propagated        yes: it happened elsewhere"), "{text}");
    has(&text, "02:13:57", "took a batch");
    let busy = told("actor/r1/rank");
    has(&busy, "at work", "step, at it for 12 s");
    has(&busy, "oldest", "waits for 40 ms");
    assert!(busy.contains("last error\n  none\n"), "{busy}");
}

#[test]
fn a_node_shows_its_rank_actors_links_and_events() {
    let text = told("node/r0");
    has(&text, "resident", "1.2 GB");
    has(&text, "started", "(1 h 01 min ago)");
    has(&text, "leads", "yes");
    for title in ["\nrank\nRANK  ", "\nactors\nACTOR  ", "\nlinks\nFROM  ", "\nlast events\nTIME  "] {
        assert!(text.contains(title), "{title}\n{text}");
    }
    assert!(!text.contains(&format!("\n{}", id(1))), "no other node's links");
    // The other nodes recorded nothing, but one was told of.
    assert!(!told("node/r1").contains("last events"));
}

#[test]
fn a_rank_shows_its_phases_as_bars() {
    let text = told("r1");
    has(&text, "compute", &format!("800 ms     80 %  {}", "█".repeat(40)));
    has(&text, "exchange", &format!("200 ms     20 %  {}", "█".repeat(10)));
    has(&text, "owned", "64.0 MB");
    assert!(text.contains("\nlanes\nLANE") && text.contains("\nshards that it owns\nSHARD"), "{text}");
}

#[test]
fn every_kind_is_told_with_all_its_properties() {
    let view = view(2);
    for item in &view.items {
        let text = describe(&view, item);
        let reference = text.lines().next().unwrap().split_whitespace().last().unwrap().to_owned();
        assert_eq!(reference, item.reference);
        if matches!(item.properties, Properties::Actor(_)) {
            continue;
        }
        let json = serde_json::to_value(&item.properties).unwrap();
        for name in json["properties"].as_object().unwrap().keys() {
            let label = name.split('_').next().unwrap();
            assert!(text.contains(label), "{name}\n{text}");
        }
    }
    assert!(told("run").contains("  nodes             4 in\n  ranks             4 computing\n"), "{}", told("run"));
}

#[test]
fn phases_that_are_no_lengths_do_no_harm() {
    let mut page = Page { out: String::new(), now_ms: NOW };
    page.bars(&BTreeMap::from([("a".into(), f64::NAN), ("b".into(), -1.0), ("c".into(), 2.0), ("d".into(), f64::INFINITY)]));
    page.bars(&BTreeMap::new());
    assert!(page.out.contains("not known yet") && page.out.lines().all(|line| width(line) < 100), "{}", page.out);
}

#[test]
fn five_hundred_links_are_cut_and_counted() {
    let mut view = view(4);
    let node = format!("node/{}", id(0));
    let link = view.items.iter().find(|item| item.kind() == Kind::Link).unwrap().clone();
    view.items.extend((0..499).map(|n| Item { reference: format!("link/{}/{n}", id(0)), parent: node.clone(), ..link.clone() }));
    let text = describe(&view, view.item(&node).unwrap());
    assert!(text.contains("and 480 more: `everstep get links`") && text.lines().count() < 90, "{text}");
}
