//! Runs that are divided, stopped, killed and resumed: the bits stay the same.

use super::bench_of_runs::{Bench, files, signal};

/// `same_bits`: for any number of ranks, and for a run that was stopped and resumed with another number.
#[test]
fn any_number_of_ranks_and_any_division_into_sessions_has_the_same_bits() {
    let bench = Bench::new();
    let mut digests = Vec::new();
    for ranks in [1, 2, 4] {
        let ran = bench.run(&format!("train recipe.toml --run r{ranks} --ranks {ranks} --json"));
        assert_eq!(ran.code, 0, "{ran:?}");
        digests.push(bench.digest(&format!("r{ranks}")));
    }
    let mut first = bench.start("train recipe.toml --run divided --ranks 2 --json");
    first.until_step(5);
    signal(first.pid(), "TERM");
    let first = first.end();
    assert_eq!(first.code, 0, "a stop is a good end: {first:?}");
    let listed = bench.run("checkpoint ls --run divided");
    assert_eq!(listed.code, 0, "{listed:?}");
    let second = bench.run("train recipe.toml --run divided --ranks 3 --json");
    assert_eq!(second.code, 0, "{second:?}");
    assert!(second.stdout.contains("checkpoint "), "it went on from a checkpoint: {}", second.stdout);
    digests.push(bench.digest("divided"));
    assert!(digests.iter().all(|digest| digest.len() == 64 && *digest == digests[0]), "{digests:?}");
}

/// A killed rank ends the others at once with a sentence that names it; the same command resumes to the same bits.
#[test]
fn a_killed_rank_ends_the_run_with_its_name_and_the_run_resumes_to_the_same_bits() {
    let bench = Bench::new();
    let mut run = bench.start("train recipe.toml --run killed --ranks 3 --json");
    let began = run.until(|event| event["event"] == "epoch_began");
    run.until_step(5);
    let victim = began["members"][1]["pid"].as_u64().unwrap();
    signal(victim as u32, "KILL");
    let killed_at = std::time::Instant::now();
    let ran = run.end();
    println!("the run ended {:.2} s after the kill", killed_at.elapsed().as_secs_f64());
    assert_eq!(ran.code, 75, "{ran:?}");
    let sentence = ran.sentence();
    assert!(sentence.contains("rank 1") && sentence.contains("resumes"), "{sentence}");
    // Nobody is left behind.
    for member in began["members"].as_array().unwrap() {
        assert!(!std::path::Path::new(&format!("/proc/{}", member["pid"])).exists(), "{member} still runs");
    }
    let status = bench.run("status --run killed --json");
    assert!(status.code == 4 && status.stdout.contains("\"step\":"), "{status:?}");
    let again = bench.run("train recipe.toml --run killed --ranks 2 --json");
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(bench.run("train recipe.toml --run whole --ranks 1 --json").code, 0);
    assert_eq!(bench.digest("killed"), bench.digest("whole"));
}

/// On a second terminal: who is in, which step, how fast; after the end, what is left.
#[test]
fn status_tells_of_a_run_that_runs_and_of_one_that_has_ended() {
    let bench = Bench::new();
    let mut run = bench.start("train recipe.toml --run told --ranks 2 --json --set run.steps=40");
    run.until_step(3);
    let status = bench.run("status --run told --json");
    assert_eq!(status.code, 0, "{status:?}");
    let view: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(view["members"].as_array().unwrap().len(), 2, "{view}");
    assert!(view["step"].as_u64() >= Some(3) && view["steps"] == 40, "{view}");
    assert_eq!(run.end().code, 0);
    let text = bench.run("status --run told");
    assert!(text.code == 0 && text.stdout.contains("40 of 40") && text.stdout.contains("ended"), "{text:?}");
    let view: serde_json::Value = serde_json::from_str(&bench.run("status --run told --json").stdout).unwrap();
    assert!(view["checkpoint"]["age_seconds"].as_f64() > Some(0.0), "{view}");
    // A question leaves no certificates behind where there were none.
    std::fs::remove_dir_all(bench.path("told/secrets")).unwrap();
    assert!(bench.run("status --run told").stdout.contains("40 of 40") && !bench.path("told/secrets").exists());
}

/// Examinations take the first checkpoint after their time has come, and the last one.
#[test]
fn checkpoints_are_examined_when_their_time_has_come() {
    let bench = Bench::new();
    let ran = bench.run("train recipe.toml --run seen --json --set data.make.dir=tested --set data.make.test=20 --set eval.every=6");
    assert_eq!(ran.code, 0, "{ran:?}");
    let events = ran.stdout.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let seen: Vec<_> = events.filter(|event| event["event"] == "evaluated").map(|event| event["step"].as_u64().unwrap()).collect();
    assert_eq!(seen, [8, 12, 14], "{}", ran.stdout);
}

/// A corrupt byte in the newest checkpoint: it is named and set aside, the one before is used, the bits are the same.
#[test]
fn a_corrupt_checkpoint_is_named_and_the_one_before_it_is_used() {
    let bench = Bench::new();
    assert_eq!(bench.run("train recipe.toml --run worn --json").code, 0);
    let digest = bench.digest("worn");
    let part = files(&bench.path("worn/checkpoints/parts/14"), "safetensors").pop().unwrap();
    let mut bytes = std::fs::read(&part).unwrap();
    let middle = bytes.len() - 100;
    bytes[middle] ^= 1;
    std::fs::write(&part, bytes).unwrap();
    let verified = bench.run("checkpoint verify --run worn");
    assert!(verified.code == 5 && format!("{}{}", verified.stdout, verified.stderr).contains("14"), "{verified:?}");
    let again = bench.run("train recipe.toml --run worn --json");
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.stdout.contains("set aside"), "{}", again.stdout);
    assert_eq!(bench.digest("worn"), digest);
}

/// A torn manifest counts as no checkpoint.
#[test]
fn a_torn_manifest_is_passed_over() {
    let bench = Bench::new();
    assert_eq!(bench.run("train recipe.toml --run torn --json").code, 0);
    let digest = bench.digest("torn");
    let manifest = bench.path("torn/checkpoints/0000000014/manifest.json");
    let bytes = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &bytes[..bytes.len() / 2]).unwrap();
    let again = bench.run("train recipe.toml --run torn --json");
    assert_eq!(again.code, 0, "{again:?}");
    assert_eq!(bench.digest("torn"), digest);
}

/// The trunk leaves as safetensors with others' names.
#[test]
fn the_trunk_is_exported() {
    let bench = Bench::new();
    assert_eq!(bench.run("train recipe.toml --run out --ranks 1 --json").code, 0);
    for (format, name) in [("timm", "s1.b1.conv1.conv.weight"), ("torchvision", "trunk_output.block1.block1-0.f.a.0.weight")] {
        let ran = bench.run(&format!("export --run out --format {format} -o {format}.safetensors"));
        assert_eq!(ran.code, 0, "{ran:?}");
        let bytes = std::fs::read(bench.path(&format!("{format}.safetensors"))).unwrap();
        let header = String::from_utf8_lossy(&bytes[..bytes.len().min(20_000)]).into_owned();
        assert!(header.contains(name), "{format}");
    }
}
