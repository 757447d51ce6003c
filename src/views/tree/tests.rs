//! Trees of a few nodes, of five hundred, and of views that lie.

use std::time::Instant;

use super::*;
use crate::views::human::width;
use crate::views::sample::{id, view};

#[test]
fn the_whole_tree_of_one_node() {
    let me = id(0);
    let expected = format!(
        "\
run demo  training: step 50 of 400, epoch 3 led by {me}
├─ node/{me}  in: on box-0, leads
│  ├─ rank/0  computing: phase compute, step 50, lanes 0..2
│  │  ├─ lane/0  computing: step 50
│  │  ├─ lane/1  computing: step 50
│  │  └─ shard/u0/0  held: step 50, 32.0 MB
│  ├─ actor rank  handling: step for 12s, 3 of 64 wait
│  ├─ actor loader  idle
│  ├─ actor coordinator  idle
│  ├─ actor desk  idle
│  ├─ actor store  idle
│  └─ link to {me}  up: heard 20ms ago, 0.4 ms
├─ checkpoint/20  intact: 1.2 GB
└─ checkpoint/40  intact: 1.2 GB
"
    );
    assert_eq!(tree(&view(1), None), expected);
}

#[test]
fn a_part_of_it_can_be_the_root() {
    let view = view(3);
    let root = view.item(&format!("node/{}", id(1)));
    let text = tree(&view, root);
    assert!(text.starts_with(&format!("node/{}  in", id(1))) && !text.contains(&format!("node/{}", id(0))), "{text}");
    assert!(text.contains("├─ actor loader  failed: last error: the loader gave up\n"), "{text}");
    assert_eq!(tree(&view, view.item("lane/3")), "lane/3  computing: step 50\n");
}

#[test]
fn five_hundred_nodes_are_readable_and_quick() {
    let many = view(500);
    let started = Instant::now();
    let text = tree(&many, None);
    assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    assert!(text.lines().count() < 60, "{text}");
    assert!(text.lines().all(|line| width(line) <= 100), "{text}");
    assert!(text.contains("├─ … and 496 more, all in, rank computing\n"), "{text}");
    // The one node with a failed actor looks different, so it is seen.
    assert!(text.contains(&format!("├─ node/{}  in", id(1))) && text.contains("actor loader  failed"), "{text}");
}

#[test]
fn an_idle_actor_with_an_error_is_not_folded_away() {
    let mut many = view(40);
    many.items.iter_mut().filter(|item| item.state == "failed").for_each(|item| item.state = "idle".into());
    let text = tree(&many, None);
    assert!(text.contains("actor loader  idle: last error: the loader gave up\n"), "{text}");
    assert!(text.contains("├─ … and 36 more, all in, rank computing\n"), "{text}");
}

#[test]
fn many_of_a_kind_are_counted_unless_they_are_asked_for() {
    let mut view = view(1);
    let link = view.items.iter().find(|item| item.kind() == Kind::Link).unwrap().clone();
    for n in 0..30 {
        let state = if n == 7 { "quiet" } else { "up" };
        view.items.push(Item { reference: format!("link/{}/{n}", id(0)), state: state.into(), ..link.clone() });
    }
    let text = tree(&view, None);
    assert!(text.contains("│  └─ … 30 more links: 30 up\n") && text.matches("quiet").count() == 1, "{text}");
    let whole = tree(&view, view.item(&format!("node/{}", id(0))));
    assert_eq!(whole.matches("─ link to").count(), 31, "{whole}");
}

#[test]
fn items_without_their_parents_are_roots() {
    let mut part = view(2);
    part.items.retain(|item| item.kind() == Kind::Actor);
    let text = tree(&part, None);
    assert_eq!(text.lines().count(), 10);
    assert!(text.starts_with("actor rank  handling"), "{text}");
    assert_eq!(tree(&View { items: Vec::new(), ..part }, None), "");
}

#[test]
fn a_view_that_lies_about_parents_is_not_walked_for_ever() {
    let mut ring = view(2);
    let (a, b) = (format!("node/{}", id(0)), format!("node/{}", id(1)));
    for item in &mut ring.items {
        match &item.reference {
            reference if *reference == a => (item.parent, item.children) = (b.clone(), vec![b.clone(), a.clone()]),
            reference if *reference == b => (item.parent, item.children) = (a.clone(), vec![a.clone()]),
            _ => {}
        }
    }
    assert!(tree(&ring, ring.item(&a)).lines().count() < 40);
    assert!(tree(&ring, None).starts_with("run demo"));
}

#[test]
fn a_chain_without_end_is_cut() {
    let mut view = view(1);
    let node = view.items[1].clone();
    for n in 0..100_000 {
        let (reference, parent) = (format!("node/{n}"), if n == 0 { "run".to_owned() } else { format!("node/{}", n - 1) });
        view.items.push(Item { reference, parent, ..node.clone() });
    }
    let text = tree(&view, None);
    assert!(text.lines().count() < 40 && text.contains("└─ … more, which no run has so deep\n"), "{text}");
}

#[test]
fn hostile_names_do_not_drive_a_terminal() {
    let mut view = view(1);
    view.items.iter_mut().for_each(|item| item.state = "a\x1b[2J\nb".into());
    let text = tree(&view, None);
    assert!(!text.contains('\x1b') && text.lines().count() == 14, "{text}");
}
