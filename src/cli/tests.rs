//! What can be typed, and what is refused.

use clap::{CommandFactory as _, Parser as _};

use super::*;
use crate::config::{Recipe, differences};

fn parse(line: &str) -> Result<Command, clap::Error> {
    Cli::try_parse_from(line.split(' ')).map(|cli| cli.command)
}

fn train(line: &str) -> TrainArgs {
    match parse(line).unwrap() {
        Command::Train(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definitions_are_sound_and_every_flag_is_explained() {
    fn explained(command: &clap::Command) {
        assert!(command.get_about().is_some(), "{}", command.get_name());
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
        }
        command.get_subcommands().for_each(explained);
    }
    Cli::command().debug_assert();
    explained(&Cli::command());
    let help = Cli::command().render_help().to_string();
    assert!(help.contains("everstep train configs/quickstart.toml") && help.contains("75  try again"), "{help}");
    assert!(!help.contains("\n  node "), "the launcher's command is hidden: {help}");
}

/// Those that begin a run, and those that examine one or a file instead, have it named each time.
const NAMED: [&str; 5] = ["train", "plan", "fork", "knn", "linear"];

#[test]
fn every_command_at_a_run_takes_it_from_the_environment_and_what_has_json_has_a_form() {
    fn judged(command: &clap::Command) -> usize {
        let has = |name: &str| command.get_arguments().find(|argument| argument.get_long() == Some(name));
        let run = has("run").filter(|_| !NAMED.contains(&command.get_name()));
        if let Some(run) = run {
            assert_eq!(run.get_env(), Some("EVERSTEP_RUN".as_ref()), "{}", command.get_name());
        }
        // Those of the desk; `train`, `audit`, `checkpoint` and `eval` know text and JSON alone.
        let desk = run.is_some() && has("certificate").is_some();
        if desk && has("json").is_some() {
            assert!(has("output").is_some_and(|output| output.get_short() == Some('o')), "{}", command.get_name());
        }
        usize::from(run.is_some()) + command.get_subcommands().map(judged).sum::<usize>()
    }
    let count = judged(&Cli::command());
    assert!(count >= 30, "{count}");
    let forms = ["text", "table", "wide", "json", "jsonl", "name"];
    let orders = ["drain r1", "drain r1 --dry-run", "undrain r1", "checkpoint now", "pause", "resume", "kill r1", "stop"];
    for (command, form) in
        orders.iter().chain(&["status", "get nodes", "top", "logs"]).flat_map(|command| forms.map(|form| (*command, form)))
    {
        parse(&format!("everstep {command} --run r -o {form}")).unwrap_or_else(|error| panic!("{command} -o {form}: {error}"));
    }
    for command in ["why", "doctor", "goodput", "history", "events", "wait step>=1", "describe r1", "tree"] {
        for form in forms {
            parse(&format!("everstep {command} --run r -o {form}")).unwrap_or_else(|error| panic!("{command} -o {form}: {error}"));
        }
    }
}

/// What lists anything.
const LISTS: [&str; 7] = ["get", "events", "history", "goodput", "doctor", "logs", "top"];

#[test]
fn whatever_lists_is_filtered_sorted_and_limited_alike_and_its_help_tells_how() {
    for name in LISTS {
        let kind = if name == "get" { " ranks" } else { "" };
        parse(&format!("everstep {name}{kind} --run r --filter a=1 --filter b~2 --sort -c --limit 3"))
            .unwrap_or_else(|error| panic!("{error}"));
        let mut command = Cli::command();
        let help = command.find_subcommand_mut(name).unwrap().render_help().to_string();
        for part in ["--filter <FIELD=VALUE>", "--sort <FIELD>", "--limit <N>", "A filter compares a field: ", "Examples:"] {
            assert!(help.contains(part), "{name}: {help}");
        }
    }
    let short = |line: &str| parse(line).is_ok();
    assert!(short("everstep events --run r -n 3") && short("everstep logs --run r -n 3") && short("everstep top --run r -n 3"));
}

#[test]
fn flags_of_train_replace_values_of_the_recipe_and_are_named_when_wrong() {
    let text = "[run]\npasses = 1\n[data.make]\n[model]\ntrunk = \"seer_10b\"\n[swav]\nfreeze_prototypes = 0\n";
    let load = |line: &str| Recipe::from_text("a.toml", text, &train(line).overrides().unwrap());
    let recipe = load("everstep train a.toml --set cluster.ranks=3 --ranks 4 --steps 9 --device flex --data photos/a=b.tar").unwrap();
    assert_eq!((recipe.cluster.ranks, recipe.run.steps, recipe.run.passes), (4, Some(9), None));
    assert_eq!((recipe.data.train.as_deref(), &recipe.data.make), (Some("photos/a=b.tar"), &None));
    let failure = Failure::from(load("everstep train a.toml --steps 0").unwrap_err());
    assert_eq!(failure.to_string(), "error: --steps 0: `run.steps` is 0: use a value from 1 to 1000000000");
    assert_eq!(failure.code, ExitCode::Config);
}

#[test]
fn a_run_has_a_place_by_default() {
    assert_eq!(train("everstep train configs/quickstart.toml").location(), "runs/quickstart");
    assert_eq!(train("everstep train configs/quickstart.toml --run /tmp/x").location(), "/tmp/x");
}

#[test]
fn every_documented_command_parses() {
    for line in [
        "everstep node",
        "everstep plan a.toml --ranks 496 --device-memory 40GiB --link 100Gbit --flops 312T --images 1000000000 --json",
        "everstep eval knn --run r --train a --test b --k 5 --temperature 0.1 --json",
        "everstep eval linear --run r --step 40 --train a --test b",
        "everstep export --run r --step 3 --format timm -o f.safetensors",
        "everstep export --run r --format torchvision -o f.safetensors",
        "everstep export --run r --format hugging-face -o f.safetensors",
        "everstep export --run r --format vissl -o f.safetensors",
        "everstep eval linear --weights f.torch --arch regnet_y_16gf --rounding torchvision --size 96 --train a --test b",
        "everstep train a.toml --init-from f.torch",
        "everstep digest --run r --step 40",
        "everstep checkpoint ls --run r --json",
        "everstep checkpoint verify --run r",
        "everstep data make d --images 10 --test 5 --size 32 --seed 1",
        "everstep data inspect d",
        "everstep status --run r --json",
    ] {
        parse(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
    for line in [
        "everstep eval knn --run r --train a --test b --temperature 0",
        "everstep plan a.toml --link fast",
        "everstep train",
        "everstep export --run r --format onnx -o f",
    ] {
        assert_eq!(parse(line).unwrap_err().exit_code(), ExitCode::Usage as i32, "{line}");
    }
}

#[test]
fn another_recipe_is_refused_by_the_keys_that_matter() {
    let text = "[run]\nsteps = 10\n[data.make]\n[model]\ntrunk = \"seer_10b\"\n[swav]\nfreeze_prototypes = 0\n";
    let load = |line: &str| Recipe::from_text("a.toml", text, &train(line).overrides().unwrap()).unwrap();
    let (old, free) = (load("everstep train a.toml"), load("everstep train a.toml --ranks 4"));
    assert_eq!(Failure::from_differences("runs/a", &differences(&old, &free)), None);
    let failure = Failure::from_differences("runs/a", &differences(&old, &load("everstep train a.toml --ranks 4 --steps 20"))).unwrap();
    assert_eq!(
        failure.sentence,
        "runs/a was begun with another recipe, which differs in `run.steps` (10 there, 20 here): restore the values or give another --run"
    );
    assert_eq!(failure.code, ExitCode::Config);
    assert_eq!(Failure::new(ExitCode::TryAgain, "two\nlines").sentence, "two lines");
}
