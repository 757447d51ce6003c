//! Recipes that load, and complaints that name file, line, key and remedy.

use std::path::PathBuf;

use super::*;

const MINIMAL: &str = "[run]\nsteps = 10\n[data]\ntrain = \"images\"\n[model]\ntrunk = \"regnet_y_400mf\"\n[swav]\nfreeze_prototypes = 2\n";

fn load(text: &str, set: &[&str]) -> Result<Recipe, String> {
    let overrides: Result<Vec<_>, _> = set.iter().map(|argument| Override::parse(argument)).collect();
    overrides.and_then(|overrides| Recipe::from_text("a.toml", text, &overrides)).map_err(|error| error.to_string())
}

fn complaint(text: &str, set: &[&str]) -> String {
    load(text, set).expect_err("this recipe must be refused")
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_the_nearest_key() {
    let text = format!("{MINIMAL}epsilon = 0.05\niteration = 3\n");
    assert_eq!(complaint(&text, &[]), "a.toml:10:1: `swav.iteration` is not a known key: did you mean `iterations`?");
    let sections = complaint(&format!("{MINIMAL}[swaf]\nepsilon = 1\n"), &[]);
    assert!(sections.starts_with("a.toml:9:"), "{sections}");
    assert!(sections.ends_with("`swaf` is not a known key: did you mean `swav`?"), "{sections}");
    let far = complaint(&format!("{MINIMAL}zzzzzzzz = 1\n"), &[]);
    assert!(
        far.ends_with("the keys here are temperature, epsilon, iterations, assign, freeze_prototypes, queue, queue_start, queue_begin"),
        "{far}"
    );
}

#[test]
fn an_unknown_key_in_a_table_of_an_array_is_found() {
    let text = format!(
        "{MINIMAL}[[crops.group]]\ncount = 2\nsize = 32\nscale = [0.1, 1]\n[[crops.group]]\ncount = 2\nsizes = 32\nscale = [0.1, 1]\n"
    );
    assert_eq!(complaint(&text, &[]), "a.toml:15:1: `crops.group.1.sizes` is not a known key: did you mean `size`?");
}

#[test]
fn a_wrong_type_is_told_in_plain_words() {
    let text = MINIMAL.replace("steps = 10", "steps = \"ten\"");
    assert_eq!(complaint(&text, &[]), "a.toml:2:9: `run.steps` is string \"ten\": give a whole number from 0");
    let text = format!("{MINIMAL}[memory]\nrecompute = \"often\"\n");
    assert_eq!(
        complaint(&text, &[]),
        "a.toml:10:13: `memory.recompute` is \"often\": use \"always\" or \"never\" or \"auto\" or \"segments\""
    );
    let text = MINIMAL.replace("[swav]", "sync = \"groups\"\n[swav]");
    assert_eq!(complaint(&text, &[]), "a.toml:7:8: `model.sync` is \"groups\", which names no lanes: use \"lane\", \"group:N\" or \"all\"");
    let text = format!("{MINIMAL}[[crops.group]]\ncount = 2\nscale = [0.1, 1]\n");
    let missing = complaint(&text, &[]);
    assert!(missing.ends_with("`crops.group.0.size` is missing: add it"), "{missing}");
}

#[test]
fn what_is_no_toml_is_named_with_its_line() {
    let error = complaint("[run]\nsteps = = 3\n", &[]);
    assert!(error.starts_with("a.toml:2:9: this is no TOML ("), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[test]
fn a_value_that_cannot_work_is_named_where_it_stands() {
    let bad = |from: &str, to: &str| complaint(&MINIMAL.replace(from, to), &[]);
    assert_eq!(bad("steps = 10", "steps = 0"), "a.toml:2:1: `run.steps` is 0: use a value from 1 to 1000000000");
    assert_eq!(bad("freeze_prototypes = 2", "epsilon = -1"), "a.toml:8:1: `swav.epsilon` is -1: use a finite value above 0");
    assert_eq!(bad("freeze_prototypes = 2", "epsilon = nan"), "a.toml:8:1: `swav.epsilon` is NaN: use a finite value above 0");
    assert_eq!(
        bad("steps = 10", "steps = 10\npasses = 2"),
        "a.toml:3:1: `run.passes` and `run.steps` are both given: keep exactly one of `run.steps`, `run.passes`"
    );
    assert_eq!(bad("steps = 10", ""), "a.toml:1:2: `run.steps` is missing: give exactly one of `run.steps`, `run.passes`");
    let no_data = bad("train = \"images\"", "");
    assert!(no_data.starts_with("a.toml:3:2: `data.train` is missing: add it, give `--data PATH`"), "{no_data}");
    assert!(bad("regnet_y_400mf", "resnet50").starts_with("a.toml:6:1: `model.trunk` is \"resnet50\", which names no trunk: use one of"));
}

#[test]
fn a_memory_plan_comes_with_what_it_needs() {
    let with = |more: &str| complaint(&format!("{MINIMAL}[memory]\n{more}"), &[]);
    assert!(with("recompute = \"auto\"\n").contains("`memory.budget` is missing: add it for `memory.recompute = \"auto\"`"));
    assert!(with("recompute = \"auto\"\nbudget = \"much\"\n").contains("`memory.budget` is \"much\", which is no size of memory"));
    assert!(with("recompute = \"segments\"\n").contains("`memory.segments` is missing"));
    assert!(with("recompute = \"segments\"\nsegments = 0\n").contains("`memory.segments` is 0"));
    let recipe = load(&format!("{MINIMAL}[memory]\nrecompute = \"auto\"\nbudget = \"1.5GiB\"\n"), &[]).unwrap();
    assert_eq!(recipe.memory.budget.as_deref().map(bytes), Some(Ok(3 << 29)));
}

#[test]
fn sections_must_fit_each_other() {
    let with = |more: &str| complaint(&format!("{MINIMAL}{more}"), &[]);
    assert_eq!(
        with("[batch]\nlanes = 2\n[cluster]\nranks = 3\n"),
        "a.toml:12:1: `cluster.ranks` is 3, more than the 2 lanes of `batch.lanes`: use at most 2 ranks, or cut the batch into more lanes"
    );
    assert!(
        complaint(&MINIMAL.replace("[swav]", "sync = \"group:3\"\n[swav]"), &[])
            .starts_with("a.toml:7:1: `model.sync` makes groups of 3 lanes")
    );
    assert!(with("queue = 100\n").starts_with("a.toml:9:1: `swav.queue` is 100, no multiple of the global batch of 128"));
    assert!(with("queue = 128000\n").starts_with("a.toml:9:1: `swav.queue` is 128000: use a value from 0 to 65536"));
    assert!(with("queue_start = 2\n").starts_with("a.toml:9:1: `swav.queue_start` is 2: use a value from 0 to 1"));
    assert!(with("[data.make]\nsize = 32\n").contains("`data.make` and `data.train` are both given"));
    assert!(with("[crops]\nflip = 1.5\n").starts_with("a.toml:10:1: `crops.flip` is 1.5: use a value from 0 to 1"));
    assert!(with("[cluster]\nbind = \"here\"\n").starts_with("a.toml:10:1: `cluster.bind` is \"here\", which is no IP address"));
    assert!(with("[device]\nname = \"tpu\"\n").contains("use \"flex\", \"libtorch:cpu\""));
    assert!(with("[model.stages]\nwidths = [30]\ndepths = [1]\ngroup_width = 16\n").contains("are both given"));
}

#[test]
fn sources_of_notices_are_named_or_refused() {
    let with = |more: &str| load(&format!("{MINIMAL}[preemption]\n{more}\n"), &[]);
    let recipe = with("sources = [\"aws\", \"file:run/leave\", \"http://10.0.0.1:80/leave\"]\npoll = 5").unwrap();
    let sources = [NoticeSource::Aws, NoticeSource::File("run/leave".into()), NoticeSource::Http("http://10.0.0.1:80/leave".into())];
    assert_eq!((recipe.preemption.sources.as_slice(), recipe.preemption.poll), (sources.as_slice(), 5.0));
    assert_eq!(load(&recipe.resolved().unwrap(), &[]).unwrap(), recipe);
    assert_eq!(load(MINIMAL, &[]).unwrap().preemption.sources, []);
    for bad in ["ec2", "file:", "https://host/a", "http://", "http:///leave", "http://me:secret@host/", "http:host"] {
        let error = with(&format!("sources = [\"{bad}\"]")).unwrap_err();
        assert!(error.starts_with(&format!("a.toml:10:11: `preemption.sources` holds \"{bad}\", which is no source")), "{error}");
    }
    assert!(with("sources = [\"gcp\", \"gcp\"]").unwrap_err().ends_with("names \"gcp\" twice: keep it once"));
    assert!(with("poll = 0").unwrap_err().ends_with("`preemption.poll` is 0: use a value from 0.1 to 60"));
    assert!(with("every = 3").unwrap_err().contains("`preemption.every` is not a known key"));
    let error = with("base_url.gcp = \"https://metadata\"").unwrap_err();
    assert!(error.contains("`preemption.base_url.gcp` is \"https://metadata\", which is no base URL: write it as http://HOST"), "{error}");
}

#[test]
fn an_override_wins_and_is_named_when_it_is_wrong() {
    let recipe = load(MINIMAL, &["run.steps=7", "optim.lr=3", "data.test=some/place", "crops.flip = 0.25", "data.train=2024"]).unwrap();
    assert_eq!(recipe.run.steps, Some(7));
    assert_eq!(recipe.optim.lr, 3.0);
    assert_eq!(recipe.data.test.as_deref(), Some("some/place"));
    assert_eq!(recipe.crops.flip, 0.25);
    assert_eq!(recipe.data.train.as_deref(), Some("2024"), "a number can be a folder's name");

    assert_eq!(complaint(MINIMAL, &["run.stepz=7"]), "--set run.stepz=7: `run.stepz` is not a known key: did you mean `steps`?");
    assert_eq!(complaint(MINIMAL, &["run.steps=x"]), "--set run.steps=x: `run.steps` is string \"x\": give a whole number from 0");
    assert_eq!(complaint(MINIMAL, &["run.steps=0"]), "--set run.steps=0: `run.steps` is 0: use a value from 1 to 1000000000");
    assert!(complaint(MINIMAL, &["run.steps"]).starts_with("--set run.steps: `run.steps` is no setting: write it as section.key=value"));
    assert!(complaint(MINIMAL, &["run.steps.more=1"]).contains("enters `steps`, which holds no such part"));
}

#[test]
fn an_override_takes_the_place_of_its_alternatives() {
    let recipe = load(MINIMAL, &["run.passes=2"]).unwrap();
    assert_eq!((recipe.run.steps, recipe.run.passes), (None, Some(2.0)));
    let made = MINIMAL.replace("[data]\ntrain = \"images\"", "[data.make]\nimages = 100");
    let recipe = load(&made, &["data.train=photos"]).unwrap();
    assert_eq!((recipe.data.train.as_deref(), recipe.data.make), (Some("photos"), None));
}

#[test]
fn an_array_is_entered_by_index() {
    let text = format!("{MINIMAL}[[crops.group]]\ncount = 2\nsize = 32\nscale = [0.1, 1]\n");
    assert_eq!(load(&text, &["crops.group.0.size=64"]).unwrap().crops.group[0].size, 64);
    assert!(complaint(&text, &["crops.group.4.size=64"]).contains("enters `group`, which holds no such part"));
}

#[test]
fn the_resolved_copy_is_complete_and_loads_to_the_same_recipe() {
    let recipe = load(MINIMAL, &["model.sync=group:2", "cluster.shard_values=4096"]).unwrap();
    let text = recipe.resolved().unwrap();
    assert!(text.contains("momentum = 0.9") && text.contains("bind = \"127.0.0.1\"") && !text.contains('#'), "{text}");
    assert_eq!(load(&text, &[]).unwrap(), recipe);
}

#[test]
fn differences_are_named_and_only_harmless_ones_may_be() {
    let a = load(MINIMAL, &[]).unwrap();
    let b = load(MINIMAL, &["cluster.ranks=3", "optim.lr=1", "eval.every=5", "cluster.shard_values=128"]).unwrap();
    let found = differences(&a, &b);
    let told: Vec<_> = found.iter().map(|d| (d.key.as_str(), d.old.as_deref(), d.new.as_deref(), d.allowed())).collect();
    assert_eq!(
        told,
        [
            ("cluster.ranks", Some("2"), Some("3"), true),
            ("cluster.shard_values", None, Some("128"), false),
            ("eval.every", Some("0"), Some("5"), true),
            ("optim.lr", Some("0.6"), Some("1.0"), false),
        ]
    );
    assert!(differences(&a, &a).is_empty());
    for key in [
        "cluster.bind",
        "checkpoint.keep",
        "eval.k",
        "data.cache",
        "device.loader_threads",
        "memory.recompute",
        "preemption.poll",
        "audit.every",
    ] {
        assert!(may_differ(key), "{key}");
    }
    for key in ["run.seed", "run.steps", "batch.lanes", "data.train", "device.name", "evaluation", "model.sync", "guard.loss_max"] {
        assert!(!may_differ(key), "{key}");
    }
}

#[test]
fn the_digest_follows_the_mathematics_and_nothing_else() {
    let of = |set: &[&str]| load(MINIMAL, set).unwrap().digest();
    let plain = of(&[]);
    assert_eq!(plain.len(), 64);
    assert_eq!(plain, of(&["cluster.ranks=4", "checkpoint.every=1", "eval.k=3", "data.cache=x", "memory.recompute=never"]));
    assert_eq!(plain, of(&["preemption.sources=[\"aws\", \"file:leave\"]", "preemption.poll=5", "preemption.azure_resource=worker_0"]));
    let others = ["run.seed=1", "optim.lr=1", "batch.lanes=8", "model.sync=lane", "swav.epsilon=0.03"];
    for set in others {
        assert_ne!(plain, of(&[set]), "{set}");
    }
}

#[test]
fn passes_become_steps_when_the_size_of_the_data_is_known() {
    let recipe = load(MINIMAL, &["run.passes=1.5"]).unwrap();
    assert_eq!(recipe.images_per_step(), 128);
    assert_eq!(recipe.steps(1300), Ok(15), "ten whole batches a pass");
    let error = recipe.steps(127).unwrap_err().to_string();
    assert!(error.contains("the data holds only 127 images: use more images or a smaller batch"), "{error}");
    assert_eq!(load(MINIMAL, &[]).unwrap().steps(1300), Ok(10));
}

#[test]
fn a_file_that_is_not_there_or_endless_is_refused() {
    let error = Recipe::load("no/such.toml", &[]).unwrap_err().to_string();
    assert!(error.starts_with("no/such.toml cannot be read (") && error.contains("configs/quickstart.toml"), "{error}");
    let dir = tempfile::tempdir().unwrap();
    let long = dir.path().join("long.toml");
    std::fs::write(&long, "#".repeat((1 << 20) + 1)).unwrap();
    assert!(Recipe::load(&long, &[]).unwrap_err().to_string().contains("longer than 1048576 bytes"));
}

#[test]
fn every_recipe_of_the_repository_loads() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let recipe = Recipe::load(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
            let head = std::fs::read_to_string(&path).unwrap();
            for part in ["# Command", "# Hardware", "# Time", "# Result"] {
                assert!(head.contains(part), "{}: its head lacks `{part}`", path.display());
            }
            assert_eq!(Recipe::from_text("resolved", &recipe.resolved().unwrap(), &[]).unwrap(), recipe);
            seen += 1;
        }
    }
    assert!(seen >= 2, "quickstart and cifar10 are there");
}
