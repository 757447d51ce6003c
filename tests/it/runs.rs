//! Runs that are divided, stopped, killed and resumed: the bits stay the same.

use super::bench_of_runs::{Bench, Ran, files, signal};

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

/// Weights and gradients that travel in 16 bits are rounded alike wherever they travel, and when they do not.
#[test]
fn narrow_wires_have_the_same_bits_on_any_number_of_ranks() {
    let bench = Bench::new();
    let digest = |name: &str, ranks: u32, reduce: &str| {
        let ran = bench.run(&format!(
            "train recipe.toml --run {name} --ranks {ranks} --json --steps 8 --set device.gather=bf16 --set device.reduce={reduce}"
        ));
        assert_eq!(ran.code, 0, "{ran:?}");
        bench.digest(name)
    };
    let one = digest("one", 1, "bf16");
    assert_eq!(one, digest("two", 2, "bf16"));
    assert_eq!(one, digest("three", 3, "bf16"));
    assert_ne!(one, digest("wide", 2, "f32"), "gradients were summed in bf16");
}

/// Whoever is killed, the leader too, the run goes on at the step it was in and the rank comes back: the same bits.
#[test]
fn killed_ranks_cost_no_step_and_come_back() {
    let bench = Bench::new();
    let mut run = bench.start("train recipe.toml --run killed --ranks 3 --json --set run.steps=60");
    let began = run.until(|event| event["event"] == "epoch_began" && event["members"].as_array().is_some_and(|all| all.len() == 3));
    run.until_step(5);
    for leader in [false, true] {
        let now = run.newest(|event| event["event"] == "epoch_began").unwrap_or_else(|| began.clone());
        let victim = now["members"].as_array().unwrap().iter().find(|member| (member["node"] == now["leader"]) == leader).unwrap();
        let (pid, epoch) = (victim["pid"].as_u64().unwrap(), now["epoch"].as_u64().unwrap());
        signal(pid as u32, "KILL");
        let back = |event: &serde_json::Value| {
            event["epoch"].as_u64() > Some(epoch) && event["members"].as_array().is_some_and(|all| all.len() == 3)
        };
        let back = run.until(|event| event["event"] == "epoch_began" && back(event));
        assert!(back["members"].as_array().unwrap().iter().all(|member| member["pid"] != victim["pid"]), "{back}");
        let step = back["step"].as_u64().unwrap();
        run.until_step(step + 2);
    }
    let ran = run.end();
    assert_eq!(ran.code, 0, "{ran:?}");
    let steps: Vec<u64> = ran.events("step_committed").iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert!(steps.iter().copied().eq(0..60), "each step once, none again: {steps:?}");
    assert!(ran.events("epoch_began").iter().skip(1).all(|event| event["state_from"] == "copies"), "{ran:?}");
    assert_eq!(bench.run("train recipe.toml --run whole --ranks 1 --json --set run.steps=60").code, 0);
    assert_eq!(bench.digest("killed"), bench.digest("whole"));
}

/// A node of which an actor has failed leaves and comes back, the leader's coordinator among them: then another member leads.
#[test]
fn actors_that_are_killed_cost_no_step_and_their_nodes_come_back() {
    let bench = Bench::new();
    let mut run = bench.start("train recipe.toml --run actors --ranks 3 --json --set run.steps=300");
    let all = |event: &serde_json::Value| event["event"] == "epoch_began" && event["members"].as_array().is_some_and(|all| all.len() == 3);
    let mut now = run.until(all);
    run.until_step(5);
    for (actor, leader) in [("coordinator", true), ("rank", false), ("loader", false), ("checkpoint_writer", false)] {
        let victim = now["members"].as_array().unwrap().iter().find(|member| (member["node"] == now["leader"]) == leader).unwrap();
        let (node, epoch) = (victim["node"].as_str().unwrap().to_owned(), now["epoch"].as_u64().unwrap());
        let killed = bench.run(&format!("kill actor/{node}/{actor} --run actors --yes"));
        assert_eq!(killed.code, 0, "{killed:?}");
        now = run.until(|event| all(event) && event["epoch"].as_u64() > Some(epoch));
        assert!(now["members"].as_array().unwrap().iter().all(|member| member["node"] != node), "it is another node now: {now}");
        run.until_step(now["step"].as_u64().unwrap() + 2);
    }
    // A node whose link fails is not lost with it: both ends say why, and meet again.
    let leader = now["leader"].as_str().unwrap();
    let member = now["members"].as_array().unwrap().iter().find(|member| member["node"] != leader).unwrap()["node"].as_str().unwrap();
    let killed = bench.run(&format!("kill actor/{member}/link-n{} --run actors --yes", &leader[..8]));
    assert_eq!(killed.code, 0, "{killed:?}");
    let odd = run.until(|event| event["event"] == "node_odd");
    assert!(odd["node"] == member && odd["because"].as_str().unwrap().contains("it was killed by an operator"), "{odd}");
    let ran = run.end();
    assert_eq!(ran.code, 0, "{ran:?}");
    for actor in ["coordinator", "rank", "loader", "checkpoint_writer"] {
        let told = |event: &&serde_json::Value| {
            event["actor"].as_str().is_some_and(|who| who.ends_with(&format!("/{actor}")))
                && event["root_cause"] == "it was killed by an operator"
        };
        assert!(ran.events("node_lost").iter().any(|event| told(&event)), "{actor}: {:?}", ran.events("node_lost"));
    }
    let steps: Vec<u64> = ran.events("step_committed").iter().map(|event| event["step"].as_u64().unwrap()).collect();
    assert!(steps.iter().copied().eq(0..300), "each step once, none again: {steps:?}");
    let none = bench.run("kill actor/r0/coordinator --run actors --yes");
    assert_ne!(none.code, 0, "nobody is there any more: {none:?}");
    assert_eq!(bench.run("train recipe.toml --run whole --ranks 2 --json --set run.steps=300 --set checkpoint.every=100").code, 0);
    assert_eq!(bench.digest("actors"), bench.digest("whole"));
}

/// Everything is killed, launcher and all: the same command resumes from the newest checkpoint to the same bits.
#[test]
fn a_run_whose_machine_was_lost_resumes_to_the_same_bits() {
    let bench = Bench::new();
    let mut run = bench.start("train recipe.toml --run lost --ranks 2 --json");
    let began = run.until(|event| event["event"] == "epoch_began" && event["members"].as_array().is_some_and(|all| all.len() == 2));
    run.until(|event| event["event"] == "checkpoint_saved");
    signal(run.pid(), "KILL");
    for member in began["members"].as_array().unwrap() {
        signal(member["pid"].as_u64().unwrap() as u32, "KILL");
    }
    run.end();
    let again = bench.run("train recipe.toml --run lost --ranks 3 --json");
    assert_eq!(again.code, 0, "{again:?}");
    assert!(again.events("epoch_began").iter().any(|event| event["state_from"].as_str().unwrap().starts_with("checkpoint")), "{again:?}");
    assert_eq!(bench.run("train recipe.toml --run whole --ranks 1 --json").code, 0);
    assert_eq!(bench.digest("lost"), bench.digest("whole"));
}

/// The same command on another terminal joins the run; when one of the two leaves the other goes on.
#[test]
fn a_second_terminal_joins_and_the_first_leaves() {
    let bench = Bench::new();
    let mut first = bench.start("train recipe.toml --run shared --ranks 1 --json --set run.steps=120");
    first.until_step(3);
    let mut second = bench.start("train recipe.toml --run shared --ranks 1 --json --set run.steps=120");
    second.until(|event| event["event"] == "epoch_began" && event["members"].as_array().is_some_and(|all| all.len() == 2));
    second.until(|event| event["event"] == "step_committed");
    signal(first.pid(), "TERM");
    let first = first.end();
    assert_eq!(first.code, 0, "leaving is a good end: {first:?}");
    let second = second.end();
    assert_eq!(second.code, 0, "{second:?}");
    assert!(second.stdout.contains("\"step\":119"), "the second ended the run: {second:?}");
    assert_eq!(bench.run("train recipe.toml --run whole --ranks 1 --json --set run.steps=120").code, 0);
    assert_eq!(bench.digest("shared"), bench.digest("whole"));
}

/// A launcher that is killed alone leaves no orphans: its ranks see that it is gone, hand over what they hold and end; nothing is lost.
#[test]
fn ranks_whose_launcher_was_killed_hand_over_and_end() {
    let bench = Bench::new();
    let mut stays = bench.start("train recipe.toml --run orphans --ranks 1 --json --set run.steps=160");
    stays.until_step(3);
    let mut goes = bench.start("train recipe.toml --run orphans --ranks 1 --json --set run.steps=160");
    let two = |event: &serde_json::Value| event["event"] == "epoch_began" && event["members"].as_array().is_some_and(|all| all.len() == 2);
    let joined = goes.until(two);
    goes.until(|event| event["event"] == "step_committed");
    signal(goes.pid(), "KILL");
    let alone = stays.until(|event| event["event"] == "epoch_began" && event["epoch"].as_u64() > joined["epoch"].as_u64());
    assert_eq!(alone["members"].as_array().map(Vec::len), Some(1), "{alone}");
    assert!(alone["because"].as_str().is_some_and(|because| because.contains("launcher is gone")), "{alone}");
    let stays = stays.end();
    assert_eq!(stays.code, 0, "{stays:?}");
    assert!(stays.events("epoch_began").iter().skip(1).all(|event| event["state_from"] == "copies"), "{stays:?}");
    assert_eq!(bench.run("train recipe.toml --run whole --ranks 1 --json --set run.steps=160").code, 0);
    assert_eq!(bench.digest("orphans"), bench.digest("whole"));
}

/// A notice that this machine is about to go: its ranks hand over what they hold and leave.
#[test]
fn a_machine_that_is_taken_away_hands_over_and_leaves() {
    let bench = Bench::new();
    let mut stays = bench.start("train recipe.toml --run spot --ranks 1 --json --set run.steps=120");
    stays.until_step(2);
    let notice = bench.path("notice");
    let mut goes = bench.start(&format!(
        "train recipe.toml --run spot --ranks 1 --json --set run.steps=120 --set preemption.poll=0.1 --set preemption.sources=[\"file:{}\"]",
        notice.display()
    ));
    goes.until(|event| event["event"] == "epoch_began" && event["members"].as_array().is_some_and(|all| all.len() == 2));
    std::fs::write(&notice, "{\"deadline_s\": 30, \"because\": \"a test wants it\"}").unwrap();
    let goes = goes.end();
    assert_eq!(goes.code, 0, "{goes:?}");
    assert!(goes.events("ended").iter().all(|event| event["outcome"] == "left"), "{goes:?}");
    let stays = stays.end();
    assert_eq!(stays.code, 0, "{stays:?}");
    assert!(!stays.stdout.contains("node_lost"), "nothing was lost: {stays:?}");
}

/// An operator lets a node leave; the ledger then proves one history and every sample once.
#[test]
fn a_node_is_drained_and_the_run_audited() {
    let bench = Bench::new();
    let mut run = bench.start("train recipe.toml --run drained --ranks 3 --json --set run.steps=100");
    run.until(|event| event["event"] == "epoch_began" && event["members"].as_array().is_some_and(|all| all.len() == 3));
    run.until_step(3);
    let drained = bench.run("drain r1 --run drained --deadline 20s");
    assert_eq!(drained.code, 0, "{drained:?}");
    run.until(|event| event["event"] == "epoch_began" && event["members"].as_array().is_some_and(|all| all.len() == 2));
    let nobody = bench.run("drain n0000 --run drained");
    assert!(nobody.code == 3 && nobody.sentence().contains("there are r0"), "{nobody:?}");
    let ran = run.end();
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stdout.contains("node_lost"), "nothing was lost: {ran:?}");
    let audit = bench.run("audit --run drained --json");
    assert_eq!(audit.code, 0, "{audit:?}");
    let audit: serde_json::Value = serde_json::from_str(&audit.stdout).unwrap();
    assert!(audit["steps"] == 100 && audit["samples"] == 1_600 && audit["complaints"].as_array().unwrap().is_empty(), "{audit}");
    // A line that says other samples is found.
    let ledger = files(&bench.path("drained/ledger"), "jsonl").pop().unwrap();
    let text = std::fs::read_to_string(&ledger).unwrap();
    std::fs::write(&ledger, text.replace("\"samples_hash\":1", "\"samples_hash\":2")).unwrap();
    let forged = bench.run("audit --run drained");
    assert!(forged.code == 5 && forged.stdout.contains("used other samples"), "{forged:?}");
}

/// A step beyond the bound changes no weights, on whatever number of ranks; an audited run has the bits of one that is not; and too
/// many bad steps in a row end the run with what to do about it.
#[test]
fn bad_steps_are_skipped_alike_everywhere_and_audits_change_nothing() {
    let bench = Bench::new();
    // The first step's loss is 6.2, the others' are below 6.
    let guarded = "--set guard.loss_max=6.1";
    let plain = bench.run("train recipe.toml --run plain --json");
    let one = bench.run(&format!("train recipe.toml --run one --ranks 1 --json {guarded}"));
    let three =
        bench.run(&format!("train recipe.toml --run three --ranks 3 --json {guarded} --set audit.every=5 --set guard.on_bad_step=recheck"));
    assert_eq!((plain.code, one.code, three.code), (0, 0, 0), "{}", three.stderr);
    let skipped = |ran: &Ran| -> Vec<u64> { ran.events("step_skipped").iter().filter_map(|event| event["step"].as_u64()).collect() };
    assert_eq!((skipped(&one), skipped(&three)), (vec![0], vec![0]));
    assert_eq!(bench.digest("one"), bench.digest("three"));
    assert_ne!(bench.digest("one"), bench.digest("plain"), "steps beyond the bound changed weights all the same");
    let audited: Vec<u64> = three.events("step_audited").iter().filter_map(|event| event["step"].as_u64()).collect();
    assert!([5, 10].iter().all(|step| audited.contains(step)), "{audited:?}");

    let over = bench.run("train recipe.toml --run over --json --set guard.loss_max=0.5 --set guard.bad_steps_max=3");
    assert_eq!(over.code, 78, "{}", over.stderr);
    assert!(over.stderr.contains("3 steps in a row were bad") && over.stderr.contains("everstep fork"), "{}", over.stderr);
}

/// A new run begins with a step of another and goes on with another seed of its own.
#[test]
fn a_run_is_forked() {
    let bench = Bench::new();
    assert_eq!(bench.run("train recipe.toml --run a --ranks 1 --json").code, 0);
    let forked = bench.run("fork --from a --step 8 --run b --set run.steps=12 --set optim.lr=0.1");
    assert_eq!(forked.code, 0, "{forked:?}");
    let again = bench.run("fork --from a --run b");
    assert!(again.code == 7 && again.sentence().contains("holds a run already"), "{again:?}");
    let ran = bench.run("train b/recipe.toml --run b --ranks 2 --json");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.events("epoch_began").iter().any(|event| event["state_from"] == "checkpoint 8"), "{ran:?}");
    assert_ne!(bench.digest("a"), bench.digest("b"));
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
    let of = |view: &serde_json::Value, kind: &str| {
        let items = view["items"].as_array().unwrap().iter().filter(|item| item["kind"] == kind);
        items.map(|item| item["properties"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(of(&view, "rank").len(), 2, "{view}");
    let told = &of(&view, "run")[0];
    assert!(told["step"].as_u64() >= Some(3) && told["steps"] == 40, "{view}");
    assert_eq!(run.end().code, 0);
    let text = bench.run("status --run told");
    assert!(text.code == 0 && text.stdout.contains("40 of 40") && text.stdout.contains("ended"), "{text:?}");
    let view: serde_json::Value = serde_json::from_str(&bench.run("status --run told --json").stdout).unwrap();
    assert_eq!(of(&view, "run")[0]["checkpoint"], 40, "{view}");
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
