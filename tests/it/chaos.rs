//! `everstep chaos`, as those type it who break clusters on purpose.

use super::bench_of_runs::Bench;

/// A plan whose faults strike and whose checks hold ends well, with a report that plays it again.
#[test]
fn a_plan_is_played_reported_and_played_again() {
    let bench = Bench::new();
    let plan = concat!(env!("CARGO_MANIFEST_DIR"), "/configs/chaos/kill.toml");
    let ran = bench.run(&format!("chaos run {plan} --out report"));
    assert_eq!(ran.code, 0, "{}{}", ran.stdout, ran.stderr);
    for file in ["timeline.jsonl", "report.html", "junit.xml", "summary.json"] {
        assert!(bench.path("report").join(file).metadata().unwrap().len() > 0, "{file}");
    }
    let again = bench.run("chaos replay report/summary.json --out again");
    assert_eq!(again.code, 0, "{}", again.stderr);
    let timeline = |folder: &str| std::fs::read_to_string(bench.path(folder).join("timeline.jsonl")).unwrap();
    assert_eq!(timeline("report"), timeline("again"), "one seed, one history");
}

/// A harness that injected nothing has shown nothing.
#[test]
fn a_plan_whose_faults_never_strike_fails_and_a_file_that_is_none_is_refused() {
    let bench = Bench::new();
    let plan = "name = 'idle'\n[workload]\nsteps = 20\n[[fault]]\nat = { step = 5000 }\nkind = 'kill'\ntarget = 'one'\n";
    std::fs::write(bench.path("idle.toml"), plan).unwrap();
    let idle = bench.run("chaos run idle.toml");
    assert_eq!(idle.code, 5, "{}{}", idle.stdout, idle.stderr);
    assert!(idle.stdout.contains("everstep chaos replay"), "{}", idle.stdout);
    std::fs::write(bench.path("bad.toml"), plan.replace("kill", "kil")).unwrap();
    let bad = bench.run("chaos run bad.toml");
    assert_eq!(bad.code, 78);
    assert!(bad.sentence().contains("kil"), "{}", bad.sentence());
}
