//! Weights, digests, exports and checkpoints.

use everstep::cli::ExitCode;
use everstep::examine;
use safetensors::SafeTensors;

use crate::fixture::{Run, everstep, fail, sentence, succeed};

const NOT_FOUND: i32 = ExitCode::NotFound as i32;
const UNHEALTHY: i32 = ExitCode::Unhealthy as i32;
const CONFIG: i32 = ExitCode::Config as i32;

#[test]
fn weights_are_whole_units_of_the_asked_or_the_newest_step() {
    let run = Run::new();
    run.save(10);
    run.save(20);
    let opened = examine::Run::open(run.place()).unwrap();
    for (asked, step) in [(None, 20), (Some(10), 10)] {
        let (found, units) = opened.weights(asked).unwrap();
        assert_eq!(found, step);
        for (number, unit) in run.job.model().units().iter().enumerate() {
            let whole: Vec<f32> = (0..unit.len()).map(|at| run.value(step, number, at)).collect();
            assert_eq!(*units[number], whole, "{}", unit.name);
        }
    }
}

#[test]
fn the_digest_is_one_line_and_depends_on_the_state_alone() {
    let (run, twin) = (Run::new(), Run::new());
    let manifest = run.save(10);
    twin.save(5);
    twin.save(10);
    let line = succeed(&["digest", "--run", run.place()]);
    assert_eq!(line, format!("{}\n", manifest.state));
    assert_eq!(line.trim_end().len(), 64);
    assert_eq!(line, succeed(&["digest", "--run", twin.place(), "--step", "10"]));
    assert_ne!(line, succeed(&["digest", "--run", twin.place(), "--step", "5"]));
}

#[test]
fn a_corrupt_byte_is_named_and_an_older_checkpoint_serves() {
    let run = Run::new();
    let older = run.save(10);
    let manifest = run.save(20);
    assert!(succeed(&["checkpoint", "verify", "--run", run.place()]).contains("intact"));
    let part = run.corrupt(&manifest, 1);

    let (stdout, stderr, code) = everstep(&["checkpoint", "verify", "--run", run.place()]);
    assert_eq!(code, UNHEALTHY);
    let problem = sentence(&stderr);
    assert!(problem.contains(&part) && problem.contains("1 of 2") && problem.contains("use that of step 10"), "{problem}");
    assert!(stdout.contains(&part) && stdout.contains("intact") && stdout.contains("damaged"), "{stdout}");

    for command in [
        vec!["digest", "--run", run.place(), "--step", "20"],
        vec!["export", "--run", run.place(), "--step", "20", "--format", "timm", "-o", "/nowhere/f.safetensors"],
    ] {
        let problem = fail(&command, UNHEALTHY);
        assert!(problem.contains(&part) && problem.contains("corrupt"), "{problem}");
    }
    let (stdout, _, code) = everstep(&["digest", "--run", run.place()]);
    assert_eq!((stdout, code), (format!("{}\n", older.state), 0), "the newest intact one");

    run.corrupt(&older, 0);
    let problem = fail(&["digest", "--run", run.place()], UNHEALTHY);
    assert!(problem.contains("no intact checkpoint") && problem.contains("step 20"), "{problem}");
    let (_, stderr, code) = everstep(&["checkpoint", "verify", "--run", run.place(), "--json"]);
    assert!(code == UNHEALTHY && sentence(&stderr).contains("begin the run anew"), "{stderr}");
}

#[test]
fn a_missing_part_and_a_torn_manifest_are_named() {
    let run = Run::new();
    let (first, second) = (run.save(10), run.save(20));
    std::fs::remove_file(run.folder.path().join(&first.parts[0].key)).unwrap();
    let torn = run.folder.path().join("checkpoints/0000000020/manifest.json");
    let text = std::fs::read(&torn).unwrap();
    std::fs::write(&torn, &text[..text.len() / 2]).unwrap();
    let (stdout, stderr, code) = everstep(&["checkpoint", "verify", "--run", run.place()]);
    assert_eq!(code, UNHEALTHY);
    assert!(stdout.contains("missing") && stdout.contains("torn") && sentence(&stderr).contains("2 of 2"), "{stdout} {stderr}");
    assert!(succeed(&["checkpoint", "ls", "--run", run.place()]).contains("missing"), "a list is no judgement");
    std::fs::write(&torn, text).unwrap();
    assert_eq!(succeed(&["digest", "--run", run.place()]), format!("{}\n", second.state));
}

#[test]
fn checkpoints_are_listed_for_people_and_programs() {
    let run = Run::new();
    assert!(succeed(&["checkpoint", "ls", "--run", run.place()]).contains("no checkpoint yet"));
    let manifest = run.save(10);
    run.save(20);
    let text = succeed(&["checkpoint", "ls", "--run", run.place()]);
    assert!(text.lines().count() == 3 && text.contains(&manifest.state.short()), "{text}");
    let json: serde_json::Value = serde_json::from_str(&succeed(&["checkpoint", "ls", "--run", run.place(), "--json"])).unwrap();
    let rows = json["checkpoints"].as_array().unwrap();
    assert_eq!((rows.len(), rows[0]["step"].as_u64(), rows[0]["bytes"].as_u64()), (2, Some(10), Some(manifest.bytes())));
    assert_eq!((rows[0]["condition"].as_str(), rows[0]["state"].as_str()), (Some("complete"), Some(manifest.state.to_string().as_str())));
    let json: serde_json::Value = serde_json::from_str(&succeed(&["checkpoint", "verify", "--run", run.place(), "--json"])).unwrap();
    assert_eq!((json["verified"].as_bool(), json["checkpoints"][1]["condition"].as_str()), (Some(true), Some("intact")));
}

#[test]
fn exports_have_the_names_and_values_of_the_asked_program() {
    let run = Run::new();
    run.save(10);
    for (format, name) in [("timm", "stem.conv.weight"), ("torchvision", "stem.0.weight")] {
        let path = run.folder.path().join("trunk.safetensors");
        let text = succeed(&["export", "--run", run.place(), "--format", format, "-o", path.to_str().unwrap()]);
        assert!(text.contains("step 10") && text.contains(format), "{text}");
        let bytes = std::fs::read(&path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let first = file.tensor(name).unwrap();
        assert_eq!(f32::from_le_bytes(first.data()[..4].try_into().unwrap()), run.value(10, 0, 0));
        let seen = file.iter().find(|(name, _)| name.ends_with("num_batches_tracked")).unwrap().1;
        assert_eq!(seen.data(), 10i64.to_le_bytes(), "one size of crops");
        assert!(file.iter().all(|(name, _)| !name.contains("prototypes") && !name.contains("head")));
    }
    let problem = fail(&["export", "--run", run.place(), "--format", "timm", "-o", "/nowhere/at/all.safetensors"], 1);
    assert!(problem.contains("/nowhere/at/all.safetensors"), "{problem}");
}

#[test]
fn what_is_not_there_is_said() {
    let run = Run::new();
    let place = run.place();
    assert!(fail(&["digest", "--run", "/nowhere/run"], NOT_FOUND).contains("/nowhere/run"));
    let empty = tempfile::tempdir().unwrap();
    assert!(fail(&["digest", "--run", empty.path().to_str().unwrap()], NOT_FOUND).contains("holds no run"));
    assert!(fail(&["digest", "--run", place], NOT_FOUND).contains("no checkpoint yet"));
    run.save(10);
    let problem = fail(&["digest", "--run", place, "--step", "11"], NOT_FOUND);
    assert!(problem.contains("step 11") && problem.contains("10"), "{problem}");
    assert!(fail(&["digest", "--run", "s3://bucket/run"], CONFIG).contains("s3"));

    let recipe = run.folder.path().join("recipe.toml");
    let text = std::fs::read_to_string(&recipe).unwrap();
    std::fs::write(&recipe, text.replace("prototypes = 12", "prototypes = 13")).unwrap();
    assert!(examine::Run::open(place).unwrap().weights(None).unwrap_err().sentence.contains("another network"));
    std::fs::write(&recipe, text.replace("prototypes = 12", "prototype = 12")).unwrap();
    let problem = fail(&["digest", "--run", place], CONFIG);
    assert!(problem.contains("recipe.toml:") && problem.contains("did you mean `prototypes`"), "{problem}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let run = Run::new();
    run.save(10);
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_everstep"))
        .args(["digest", "--run", run.place()])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}
