//! Tables on paper and on a screen, of a run that is made up.

use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use everstep_actors::desk::answer::select;
use everstep_actors::desk::view::{ActorView, Item, NodeView, Properties, RankView, RunView, SCHEMA_VERSION, Scope};
use everstep_actors::event::Recorded;

use super::*;
use crate::cli::selection::Selection;

/// A run whose clock goes on by a second with every question for all.
struct Run {
    ranks: u32,
    seconds: AtomicU64,
    fails_after: u64,
}

impl Run {
    fn of(ranks: u32) -> Self {
        Self { ranks, seconds: AtomicU64::new(0), fails_after: u64::MAX }
    }

    fn items(&self, seconds: u64) -> Vec<Item> {
        let as_of_ms = 1_000_000 + seconds * 1000;
        let item = |reference: String, state: &str, properties: Properties| {
            let (parent, state) = (String::new(), state.to_owned());
            Item { reference, parent, children: Vec::new(), state, since_ms: 0, as_of_ms, properties }
        };
        let run = RunView { name: "quickstart".into(), step: 7, steps: 9, waiting: Some("for\x1b[2J copies".into()), ..RunView::default() };
        let mut items = vec![item("run".into(), "waiting", Properties::Run(run))];
        for rank in 0..self.ranks {
            let node = format!("node/{rank}");
            let view = NodeView {
                host: format!("host-{rank}"),
                started_ms: as_of_ms - 100_000 - seconds * 1000,
                // A core from the beginning, and rank 1 all of a second core from then on.
                cpu_s: 50.0 + seconds as f64 * f64::from(rank + 1),
                resident_bytes: 1_000_000 * u64::from(10 - rank % 10),
                ..NodeView::default()
            };
            items.push(item(node.clone(), "in", Properties::Node(view)));
            let pace = if rank == 2 { 3.5 } else { 1.0 };
            let view = RankView { rank, node: node.clone(), phase: "compute".into(), pace, ..RankView::default() };
            items.push(item(format!("rank/{rank}"), "computing", Properties::Rank(view)));
            let actor = ActorView { node, depth: u64::from(rank), ..ActorView::default() };
            items.push(item(format!("actor/{rank}/rank"), "idle", Properties::Actor(actor)));
        }
        items
    }
}

#[async_trait]
impl Eye for Run {
    async fn look(&self, question: &Question) -> Result<View, Failure> {
        let seconds = self.seconds.load(Ordering::Relaxed);
        if question.kinds.contains(&Kind::Actor) {
            self.seconds.store(seconds + 1, Ordering::Relaxed);
        }
        if seconds >= self.fails_after {
            return Err(Failure::new(ExitCode::Unreachable, "the leader is gone"));
        }
        let (items, matched) = select(self.items(seconds), question);
        Ok(View {
            schema_version: SCHEMA_VERSION,
            answered_by: String::new(),
            scope: Scope::Run,
            as_of_ms: 0,
            missing: Vec::new(),
            matched,
            items,
        })
    }

    async fn events(&self) -> Result<Vec<Recorded>, Failure> {
        Ok(Vec::new())
    }
}

fn args(count: u64) -> TopArgs {
    TopArgs { once: false, count: Some(count), every: 1.0, selection: Selection::default(), output: Output::Table }
}

/// So many tables, sorted and cut.
fn asked(count: u64, filter: &[&str], sort: Option<&str>, limit: Option<u64>) -> TopArgs {
    let filter = filter.iter().map(|text| (*text).to_owned()).collect();
    TopArgs { selection: Selection { filter, sort: sort.map(str::to_owned), limit }, ..args(count) }
}

/// What goes to stdout and to stderr.
async fn printed(run: &Run, args: &TopArgs, screen: Option<(u16, u16)>) -> (String, String) {
    let (mut out, mut talk) = (Vec::new(), Vec::new());
    let mut paper = Paper { out: &mut out, talk: &mut talk, screen, told: Vec::new() };
    let question = table::list().question(&args.selection).unwrap();
    assert_eq!(rounds(args, &question, run, &mut paper).await.unwrap(), ExitCode::Done);
    (String::from_utf8(out).unwrap(), String::from_utf8(talk).unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_slowest_rank_is_the_first_and_nothing_is_wider_than_a_hundred_columns() {
    let (out, talk) = printed(&Run::of(500), &TopArgs { once: true, count: None, ..args(1) }, None).await;
    let lines: Vec<&str> = out.lines().collect();
    println!("{}", lines[..6].join("\n"));
    assert!(lines[0].starts_with("quickstart: waiting, step 7 of 9") && lines[1] == "waits: for [2J copies", "{out}");
    assert!(lines[2].starts_with("RANK STATE") && lines[3].starts_with("   2 computing") && lines[3].contains("3.50x"), "{out}");
    assert!(lines.len() == 503 && lines.iter().all(|line| line.len() <= 100), "{out}");
    assert_eq!(talk, "");
}

#[tokio::test(start_paused = true)]
async fn cpu_is_that_since_the_table_before() {
    let (out, _) = printed(&Run::of(2), &asked(2, &[], Some("-cpu%"), None), None).await;
    let cpu: Vec<&str> = out.lines().filter(|line| line.contains("host-")).map(|line| line.split_whitespace().nth(6).unwrap()).collect();
    assert_eq!(cpu, ["50", "50", "200", "100"], "{out}");
}

#[tokio::test(start_paused = true)]
async fn other_orders_and_limits_are_kept_and_what_is_cut_is_said_once() {
    let first = |out: &str| out.lines().find(|line| line.contains("host-")).unwrap().trim_start()[..1].to_owned();
    for (sort, wanted) in [("-memory", "0"), ("memory", "4"), ("-mailbox", "4"), ("rank", "0"), ("-pace", "2"), ("-host", "4")] {
        let (out, talk) = printed(&Run::of(5), &asked(3, &[], Some(sort), Some(2)), None).await;
        assert_eq!((first(&out).as_str(), talk.as_str()), (wanted, "showing 2 of 5: raise --limit or narrow --filter\n"), "{sort}\n{out}");
    }
}

#[tokio::test(start_paused = true)]
async fn filters_hold_before_the_limit_and_before_what_fits() {
    let ranks = |out: &str| {
        let rows = out.lines().filter(|line| line.contains("host-"));
        rows.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (out, talk) = printed(&Run::of(9), &asked(1, &["mailbox>=3", "memory>5MB"], None, Some(1)), None).await;
    assert_eq!((ranks(&out), talk.as_str()), (vec!["3".to_owned()], "showing 1 of 2: raise --limit or narrow --filter\n"), "{out}");
    let (out, _) = printed(&Run::of(9), &asked(1, &["pace>2"], None, None), Some((80, 24))).await;
    assert!(ranks(&out) == ["2"] && !out.contains("showing"), "the host is not cut off, nor what is not cut told of: {out}");
    let (out, talk) = printed(&Run::of(9), &asked(1, &["host=nowhere"], None, None), None).await;
    assert!(ranks(&out).is_empty() && talk == "no rank matches: widen --filter\n", "{talk}");
    let (out, _) = printed(&Run::of(90), &asked(1, &["rank>=10"], None, None), Some((80, 24))).await;
    assert!(ranks(&out).len() == 19 && out.contains("showing 19 of 80: enlarge the terminal"), "{out}");
    let mut nothing = Vec::new();
    let wrong = run(&asked(1, &["size>3"], None, None), &Run { fails_after: 0, ..Run::of(1) }, &mut nothing).await.unwrap_err();
    assert!(wrong.code == ExitCode::Usage && wrong.sentence.contains("rows have compute_s, cpu, host"), "{wrong}");
}

#[tokio::test(start_paused = true)]
async fn every_form_keeps_the_order_and_the_limit() {
    let told = async |output: Output| printed(&Run::of(5), &TopArgs { output, ..asked(1, &[], None, Some(2)) }, None).await.0;
    assert_eq!(told(Output::Name).await, "rank/2\nrank/0\n");
    let references = |text: &str| text.lines().map(|line| serde_json::from_str::<Item>(line).unwrap().reference).collect::<Vec<_>>();
    assert_eq!(references(&told(Output::Jsonl).await), ["rank/2", "node/2", "rank/0", "node/0"]);
    let whole: View = serde_json::from_str(&told(Output::Json).await).unwrap();
    assert_eq!(whole.items.iter().map(|item| item.reference.as_str()).collect::<Vec<_>>()[..3], ["run", "rank/2", "node/2"]);
    let wide = told(Output::Wide).await;
    assert!(wide.contains("RANK  STATE") && wide.contains("host-2") && !wide.contains("host-3"), "{wide}");
}

#[tokio::test(start_paused = true)]
async fn a_screen_is_drawn_over_and_never_scrolls() {
    let (out, talk) = printed(&Run::of(500), &args(2), Some((80, 24))).await;
    assert_eq!((out.matches("\x1b[H").count(), out.matches("\x1b[J").count(), talk.as_str()), (2, 2, ""), "{out}");
    assert!(!out.contains("\x1b[2J"), "what the run says does not drive the terminal");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_away_is_told_of_and_one_that_was_never_there_is_a_failure() {
    let (out, talk) = printed(&Run { fails_after: 1, ..Run::of(1) }, &args(2), None).await;
    assert!(out.contains("host-0") && talk == "the leader is gone\n", "{talk}");
    let mut nothing = Vec::new();
    let gone = run(&args(2), &Run { fails_after: 0, ..Run::of(1) }, &mut nothing).await.unwrap_err();
    assert_eq!((gone.code, gone.sentence.as_str(), nothing.len()), (ExitCode::Unreachable, "the leader is gone", 0));
    let (_, talk) = printed(&Run::of(0), &args(1), None).await;
    assert_eq!(talk, "no rank has a place in the plan\n");
}
