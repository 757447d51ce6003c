//! The library of named plans, and the commands that play them: every plan holds in the simulated tier and all its faults strike
//! and show; reports are whole, and can be replayed.

#![expect(clippy::unwrap_used, reason = "what helpers unwrap fails the test that called them")]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use everstep_chaos::checks::{self, Check};
use everstep_chaos::command;
use everstep_chaos::error::ChaosError;
use everstep_chaos::history::Happening;
use everstep_chaos::report::{Report, SUMMARY};
use everstep_chaos::scenario::Scenario;
use everstep_chaos::sim::{self, Bug};
use everstep_chaos::tier::{Played, Tier};

fn plans() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/chaos");
    let mut plans: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    plans.sort();
    plans
}

fn plan(name: &str) -> Scenario {
    let path = plans().into_iter().find(|path| path.file_stem().is_some_and(|stem| stem == name)).unwrap();
    Scenario::load(&path).unwrap()
}

/// What came of every plan, played once for all tests.
fn reports() -> &'static [Report] {
    static REPORTS: OnceLock<Vec<Report>> = OnceLock::new();
    REPORTS.get_or_init(|| {
        let play = |path: PathBuf| {
            let scenario = Scenario::load(&path).unwrap_or_else(|error| panic!("{error}"));
            Report::of(&scenario, scenario.seed, Tier::Sim, Tier::Sim.play(&scenario, scenario.seed).unwrap())
        };
        plans().into_iter().map(play).collect()
    })
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn every_plan_holds_and_all_its_faults_strike_and_show() {
    let plans = plans();
    assert!(plans.len() >= 20, "{plans:?}");
    for (path, report) in plans.iter().zip(reports()) {
        let scenario = &report.scenario;
        assert_eq!(Some(scenario.name.as_str()), path.file_stem().unwrap().to_str(), "a plan is named as its file is");
        let head: String = text(path).lines().take_while(|line| line.starts_with('#')).collect();
        let command = format!("everstep chaos run configs/chaos/{}.toml", scenario.name);
        assert!(
            [command.as_str(), "# Time: ", "# Result: "].iter().all(|part| head.contains(part)),
            "{}: its head is not whole",
            path.display()
        );
        assert!(report.holds(), "{report}");
        assert_eq!(report.verdicts.len(), checks::ALL.len());
        for tally in &report.tallies {
            assert!(
                tally.injected > 0 && tally.seen > 0,
                "{}: fault {} never struck or never showed\n{report}",
                path.display(),
                tally.number
            );
        }
    }
}

/// The numbers that the heads of these plans promise.
#[test]
fn plans_show_what_they_say() {
    let play = |name: &str| reports().iter().find(|report| report.scenario.name == name).unwrap();
    for name in ["kill", "kill-host", "stop", "hang", "leader", "partition", "one-way", "notice", "bit-flip", "half-preempted", "flapping"]
    {
        assert_eq!(play(name).figures.steps_lost, 0, "{name}");
    }
    assert!(play("half-lost").figures.steps_lost > 0, "both copies of some shard die");
    assert!(play("herd").figures.epochs <= 6);
    let corrupt = play("corrupt");
    assert!(corrupt.history.entries.iter().any(|entry| matches!(entry.what, Happening::SetAside { .. })));
    let torture = play("torture");
    assert!(torture.figures.strikes > 10_000, "{}", torture.figures.strikes);
    let soak = play("soak");
    assert!(soak.figures.took_s > 3_600.0 && soak.figures.sizes.len() == 2);
    for size in &soak.figures.sizes {
        assert!(size.late * 10 <= size.early * 15, "{} grow: {} and then {}", size.of, size.early, size.late);
    }
}

#[test]
fn a_report_can_be_replayed_from_its_folder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = sim::draw(12, None);
    let first = command::play(&drawn, 12, Tier::Sim, &folder.path().join("first")).unwrap();
    let again = command::replay(&folder.path().join("first").join(SUMMARY), &folder.path().join("again")).unwrap();
    assert_eq!((first.scenario, first.seed, first.history), (again.scenario, again.seed, again.history));
    let timeline = |name: &str| text(&folder.path().join(name).join("timeline.jsonl"));
    assert_eq!(timeline("first"), timeline("again"));
    for event in ["struck", "felt", "recorded", "begun", "stable"] {
        assert!(timeline("first").contains(&format!("\"event\":\"{event}\"")), "{event}");
    }
}

#[test]
fn a_page_needs_nothing_from_outside_and_names_are_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = plan("kill");
    scenario.name = "<script>alert('x')</script>".into();
    let report = command::play(&scenario, 1, Tier::Sim, folder.path()).unwrap();
    let page = text(&folder.path().join("report.html"));
    for outside in ["http:", "https:", "src=", "<link", "<script", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("prefers-color-scheme:dark") && page.matches("<svg").count() == 4 + report.tallies.len());
    let junit = text(&folder.path().join("junit.xml"));
    assert!(junit.contains("tests=\"10\" failures=\"0\"") && !junit.contains("<script"), "{junit}");
}

/// What a failing run says first: the check, the step, the last twenty events, and how to see it again.
#[test]
fn a_failure_says_what_where_and_how_to_see_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let scenario = plan("kill");
    let run = sim::run(&scenario, 1, Some(Bug::SumByPlacement)).unwrap();
    let played =
        Played { history: run.history, promise: run.promise, violations: run.violations, trace: None, wall: std::time::Duration::ZERO };
    let mut report = Report::of(&scenario, 1, Tier::Sim, played);
    report.write(folder.path()).unwrap();
    let said = report.to_string();
    let mut lines = said.lines();
    assert!(lines.next().unwrap().starts_with("same_bits: the state after step 0"), "{said}");
    assert_eq!(lines.next().unwrap(), "first seen at step 0; the last events:");
    assert_eq!(lines.by_ref().take_while(|line| line.starts_with("  ")).count(), report.failure.as_ref().unwrap().last.len());
    assert!(said.contains(&format!("replay: everstep chaos replay {}", folder.path().join(SUMMARY).display())), "{said}");
    let verdicts: Vec<Check> = report.verdicts.iter().filter(|verdict| verdict.broken > 0).map(|verdict| verdict.check).collect();
    assert!(verdicts.contains(&Check::SameBits));
    assert!(text(&folder.path().join("timeline.jsonl")).contains("\"event\":\"violation\""));
    assert!(text(&folder.path().join("junit.xml")).contains("<failure message=\"the state after step 0"));
    let page = text(&folder.path().join("report.html"));
    assert!(page.contains("class=\"broken\"") && page.contains(">fails</span>"));
}

#[test]
fn a_plan_in_which_nothing_strikes_has_failed() {
    let mut scenario = plan("kill");
    scenario.faults[0].at.when = everstep_chaos::scenario::When::Step(1_000_000);
    let report = Report::of(&scenario, 1, Tier::Sim, Tier::Sim.play(&scenario, 1).unwrap());
    assert!(report.violations.is_empty() && !report.holds());
    assert!(report.to_string().starts_with("faults: no fault struck"), "{report}");
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let holds = plans().into_iter().find(|path| path.ends_with("kill.toml")).unwrap();
    let error = command::shrink(&holds, None, Tier::Sim, folder.path()).unwrap_err();
    assert!(matches!(error, ChaosError::Holds { .. }), "{error}");
    std::fs::write(folder.path().join("x.json"), "{}").unwrap();
    let error = command::replay(&folder.path().join("x.json"), folder.path()).unwrap_err().to_string();
    assert!(error.contains("it is no summary.json of a report"), "{error}");
    let file = folder.path().join("x.json");
    let error = command::run(&holds, None, Tier::Sim, &file).unwrap_err().to_string();
    assert!(error.contains("name another folder with --out"), "{error}");
}

#[test]
fn a_swarm_plays_every_seed_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    let swarm = command::swarm(30, 500, None, folder.path(), |seed, _| seen.push(seed)).unwrap();
    assert_eq!(seen, (500..530).collect::<Vec<u64>>());
    assert!(swarm.holds() && swarm.to_string().starts_with("30 seeds, "), "{swarm}");
    let quiet = command::swarm(0, 0, None, folder.path(), |_, _| {}).unwrap();
    assert!(!quiet.holds() && quiet.to_string().contains("which proves nothing"), "{quiet}");
}

/// Nobody gets well within a millisecond: a plan that asks for it fails, and what does not matter is left out of it.
#[test]
fn a_failing_plan_is_made_small_and_fails_again_when_it_is_replayed() {
    let folder = tempfile::tempdir().unwrap();
    let mut scenario = plan("leader");
    scenario.probe.end.recover_within = "1ms".parse().unwrap();
    let file = folder.path().join("plan.toml");
    std::fs::write(&file, scenario.to_toml().unwrap()).unwrap();
    let small = command::shrink(&file, Some(2), Tier::Sim, folder.path()).unwrap();
    assert!(
        small.scenario.faults.len() <= 1 && small.scenario.cluster.nodes < scenario.cluster.nodes,
        "{}",
        small.scenario.to_toml().unwrap()
    );
    let again = command::replay(&folder.path().join(SUMMARY), &folder.path().join("again")).unwrap();
    assert_eq!(again.failure, small.failure);
    assert_eq!(again.failure.map(|failure| failure.check), Some("heals".to_owned()));
}
