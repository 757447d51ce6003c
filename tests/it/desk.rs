//! What an operator does at a run: look, understand, act; and what each certificate allows.

use serde_json::Value;

use crate::bench_of_runs::{Bench, Ran, signal};

/// A run of many steps with three ranks, no checkpoint by itself.
const LONG: &str = "train recipe.toml --run told --ranks 3 --json --set run.steps=100000 --set checkpoint.every=100000";

fn json(ran: &Ran) -> Value {
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

/// The one run of a view.
fn run_of(view: &Value) -> Value {
    let items = view["items"].as_array().unwrap();
    items.iter().find(|item| item["kind"] == "run").unwrap_or_else(|| panic!("{view}")).clone()
}

fn run_now(bench: &Bench) -> Value {
    run_of(&json(&bench.run("status --run told -o json")))
}

#[test]
fn a_run_shows_everything_that_it_is_made_of() {
    let bench = Bench::new();
    let mut run = bench.start(LONG);
    run.until_step(3);
    let status = bench.run("status --run told");
    assert!(status.code == 0 && status.stdout.contains("of 100000") && status.stdout.contains("RANK"), "{status:?}");
    let view = json(&bench.run("status --run told -o json"));
    assert_eq!((view["scope"].as_str(), view["schema_version"].as_u64()), (Some("run"), Some(1)), "{view}");
    assert_eq!(run_of(&view)["properties"]["ranks"], 3);
    for (kind, count) in [("nodes", 3), ("ranks", 3), ("lanes", 4), ("links", 6)] {
        let names = bench.run(&format!("get {kind} --run told -o name"));
        assert_eq!((names.code, names.stdout.lines().count()), (0, count), "{names:?}");
    }
    let actors = bench.run("get actors --run told -o jsonl");
    let actors: Vec<Value> = actors.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: std::collections::BTreeSet<&str> = actors.iter().map(|actor| actor["properties"]["actor_kind"].as_str().unwrap()).collect();
    assert!(
        ["rank", "loader", "coordinator", "desk", "aggregator", "node", "checkpoint_writer", "link"]
            .iter()
            .all(|kind| kinds.contains(kind)),
        "{kinds:?}"
    );
    assert!(actors.iter().any(|actor| actor["properties"]["handled"].as_u64() > Some(0)), "{actors:?}");
    let links = actors.iter().filter(|actor| actor["properties"]["actor_kind"] == "link");
    let at_work = links.filter(|actor| actor["properties"]["handled"].as_u64() > Some(0) && actor["properties"]["capacity"] == 64);
    assert!(at_work.count() >= 6, "each end of the links between three ranks has one: {actors:?}");
    let filtered = bench.run("get actors --run told --filter actor_kind=rank --limit 2 -o name");
    assert!(filtered.stdout.lines().count() == 2 && filtered.stderr.contains("of 3"), "what a limit cut is said: {filtered:?}");
    let shards = bench.run("get shards --run told -o jsonl").stdout;
    let shard: Value = serde_json::from_str(shards.lines().next().unwrap()).unwrap();
    assert!(shard["properties"]["copies"].as_array().is_some_and(|copies| !copies.is_empty()), "{shard}");
    for line in ["describe r0 --run told", "describe run --run told", "tree --run told", "why slow --run told", "top --run told --once"] {
        let ran = bench.run(line);
        assert!(ran.code == 0 && ran.stdout.lines().count() > 1, "{ran:?}");
    }
    let ranks = bench.run("top --run told --once --sort rank --limit 2 -o name");
    assert!(ranks.stdout == "rank/0\nrank/1" && ranks.stderr.contains("showing 2 of 3"), "{ranks:?}");
    assert_eq!(bench.run("top --run told --once --filter rank>=1 --sort -rank -o name").stdout, "rank/2\nrank/1");
    let top = bench.run("top --run told --once -o json");
    assert_eq!(json(&top)["items"].as_array().unwrap().len(), 7, "the run, three ranks and their nodes: {top:?}");
    for line in ["why slow", "doctor", "goodput", "history", "events", "logs", "explain rank"] {
        let ran = bench.run(&if line.starts_with("explain") { format!("{line} -o jsonl") } else { format!("{line} --run told -o jsonl") });
        assert!(
            matches!(ran.code, 0 | 5)
                && ran.stdout.lines().all(|line| serde_json::from_str::<Value>(line).is_ok_and(|value| value.is_object())),
            "{ran:?}"
        );
    }
    let steps = bench.run("events --run told --all --filter event=step_committed --filter step>=1 --sort -step --limit 1 -o jsonl");
    let step: Value = serde_json::from_str(&steps.stdout).unwrap();
    assert!(step["step"].as_u64() >= Some(2) && steps.stderr.contains("showing 1 of "), "{steps:?}");
    // Every listing command refuses a field that its rows have not, and names those that they have.
    for line in ["events", "history", "goodput", "doctor", "logs", "top --once", "get ranks"] {
        let refused = bench.run(&format!("{line} --run told --filter nonsense=1 --sort -step --limit 1"));
        assert!(refused.code == 2 && refused.stderr.contains("no field `nonsense` for --filter: "), "{refused:?}");
    }
    for line in ["events -f --sort step", "logs -f --sort step"] {
        let refused = bench.run(&format!("{line} --run told"));
        assert!(refused.code == 2 && refused.stderr.contains("leave one of the two out"), "{refused:?}");
    }
    let named = bench.run("events --run told -o name --limit 1");
    let described = bench.run(&format!("describe {} --run told", named.stdout.trim_end()));
    assert!(named.stdout.starts_with("event/n") && described.code == 0, "{named:?} {described:?}");
    let wrong = bench.run("describe rank/77 --run told");
    assert_eq!(wrong.code, 3, "{wrong:?}");
    assert_eq!(bench.run("get nodes --run told --filter nonsense").code, 2);
    let waited = bench.run("wait step>=5 --run told --timeout 60s");
    assert_eq!(waited.code, 0, "{waited:?}");
    assert_eq!(bench.run("wait step>=99999 --run told --timeout 1s").code, 6);
    let metrics = bench.run("metrics --run told");
    assert!(metrics.stdout.contains("everstep_step ") && metrics.stdout.contains("# TYPE"), "{metrics:?}");
    signal(run.pid(), "TERM");
    assert_eq!(run.end().code, 0);
}

#[test]
fn a_node_that_stands_by_is_in_every_view_until_it_has_a_place() {
    let bench = Bench::new();
    let mut run = bench.start(&format!("{LONG} --set cluster.ranks_max=2"));
    run.until(|event| event["event"] == "stands_by");
    run.until_step(3);
    let nodes = || {
        let listed = bench.run("get nodes --run told -o jsonl").stdout;
        listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
    };
    let spare = |nodes: &[Value]| nodes.iter().find(|node| node["state"] == "standing by").cloned();
    let seen = nodes();
    let spare_node = spare(&seen).unwrap_or_else(|| panic!("{seen:?}"));
    assert_eq!((seen.len(), &spare_node["properties"]["rank"]), (3, &Value::Null), "{seen:?}");
    assert!(spare_node["properties"]["resident_bytes"].as_u64() > Some(0), "it is asked like the others: {spare_node}");
    let status = bench.run("status --run told").stdout;
    assert!(status.contains("3 nodes: 2 in, 1 standing by"), "{status}");
    let tree = bench.run("tree --run told").stdout;
    let name = spare_node["reference"].as_str().unwrap();
    assert!(tree.lines().any(|line| line.contains(name) && line.contains("standing by")), "{tree}");
    let described = bench.run(&format!("describe {name} --run told"));
    assert!(described.code == 0 && described.stdout.contains("standing by"), "{described:?}");
    assert_eq!(bench.run("drain r1 --run told").code, 0);
    run.until(|event| event["event"] == "epoch_began" && event["epoch"].as_u64() >= Some(3));
    assert_eq!(bench.run("wait step>=10 --run told --timeout 60s").code, 0);
    assert_eq!(spare(&nodes()), None, "it has taken the place");
    signal(run.pid(), "TERM");
    assert_eq!(run.end().code, 0);
}

#[test]
fn orders_are_obeyed_and_every_one_is_an_event() {
    let bench = Bench::new();
    let mut run = bench.start(LONG);
    run.until_step(3);
    let saved = bench.run("checkpoint now --run told");
    assert_eq!(saved.code, 0, "{saved:?}");
    assert_eq!(bench.run("wait checkpoint>=1 --run told --timeout 60s").code, 0);
    assert_eq!(bench.run("pause --run told").code, 0);
    let paused = bench.run("wait paused=true --run told --timeout 60s");
    assert_eq!(paused.code, 0, "{paused:?}");
    let why = bench.run("why waiting --run told");
    assert!(why.code == 0 && why.stdout.contains("paused") && why.stdout.contains("resume"), "{why:?}");
    let step = run_now(&bench)["properties"]["step"].as_u64();
    assert_eq!(run_now(&bench)["properties"]["step"].as_u64(), step, "nothing is computed");
    let resumed = json(&bench.run("resume --run told -o json"));
    assert_eq!(resumed["order"], "resume", "{resumed}");
    let after = step.unwrap() + 3;
    assert_eq!(bench.run(&format!("wait step>={after} --run told --timeout 60s")).code, 0);
    let dry = bench.run("drain r2 --run told --dry-run");
    assert!(dry.code == 0 && dry.stdout.contains("2 ranks would go on"), "{dry:?}");
    let dry = json(&bench.run("drain r2 --run told --dry-run -o json"));
    assert!(dry["order"] == "drain --dry-run" && dry["node"].as_str().is_some_and(|node| node.starts_with("node/n")), "{dry}");
    assert_eq!(run_now(&bench)["properties"]["ranks"], 3, "a dry run moves nothing");
    assert_eq!(bench.run("drain r2 --run told").code, 0);
    assert_eq!(bench.run("wait ranks=2 --run told --timeout 60s").code, 0);
    // What happens before the next step belongs to the drain.
    let step = run_now(&bench)["properties"]["step"].as_u64().unwrap();
    assert_eq!(bench.run(&format!("wait step>={} --run told --timeout 60s", step + 1)).code, 0);
    let refused = bench.run("kill r1 --run told");
    assert_eq!(refused.code, 7, "{refused:?}");
    for (what, code) in [("actor/r1/rank", 7), ("actor/r1/nobody --yes", 7), ("actor/r1/node --yes", 7), ("actor/r1 --yes", 2)] {
        let refused = bench.run(&format!("kill {what} --run told"));
        assert_eq!(refused.code, code, "{refused:?}");
    }
    // Its launcher starts it anew while the run ends: the new process ends with it, and begins nothing by itself.
    assert_eq!(bench.run("kill r1 --run told --yes").code, 0);
    run.until(|event| event["event"] == "node_lost");
    let stopped = bench.run("stop --run told");
    assert_eq!(stopped.code, 0, "{stopped:?}");
    assert_eq!(run.end().code, 0);
    // Nothing runs any more: the store still tells it all.
    let events = bench.run("events --run told --json").stdout;
    for order in ["checkpoint now", "pause", "resume", "drain", "kill", "stop"] {
        let told = events.lines().any(|line| line.contains("\"ordered\"") && line.contains(&format!("\"{order}\"")));
        assert!(told, "`{order}` is no event: {events}");
    }
    let history = bench.run("history --run told");
    assert!(history.code == 0 && history.stdout.contains("ordered `kill`"), "{history:?}");
    let goodput = bench.run("goodput --run told");
    assert!(goodput.code == 0 && goodput.stdout.contains("compute"), "{goodput:?}");
    let bundle = bench.run("bundle --run told -o bundle.tar");
    assert!(bundle.code == 0 && bench.path("bundle.tar").exists(), "{bundle:?}");
    let boards = bench.run("tensorboard --run told --out board");
    assert!(boards.code == 0 && std::fs::read_dir(bench.path("board")).unwrap().count() == 1, "{boards:?}");
}

#[test]
fn a_viewer_may_look_and_not_order() {
    let bench = Bench::new();
    let mut run = bench.start(LONG);
    run.until_step(2);
    assert_eq!(bench.run("cert issue --run told --role viewer --ttl 1h -o viewer.pem").code, 0);
    std::fs::rename(bench.path("told/secrets"), bench.path("hidden")).unwrap();
    let view = json(&bench.run("status --run told --certificate viewer.pem -o json"));
    assert_eq!(view["scope"], "run", "{view}");
    for order in ["pause", "stop", "checkpoint now", "drain r1", "kill r1 --yes"] {
        let ran = bench.run(&format!("{order} --run told --certificate viewer.pem"));
        assert!(ran.code == 7 && ran.sentence().contains("may look and not order"), "{ran:?}");
    }
    assert_eq!(run_of(&json(&bench.run("status --run told --certificate viewer.pem -o json")))["properties"]["ranks"], 3);
    // Without any certificate the store tells what is durable, and says so.
    let blind = bench.run("status --run told");
    assert!(blind.code == 4 && blind.stderr.contains("the store tells"), "{blind:?}");
    std::fs::rename(bench.path("hidden"), bench.path("told/secrets")).unwrap();
    signal(run.pid(), "TERM");
    assert_eq!(run.end().code, 0);
}

#[test]
fn a_machine_without_the_authority_joins_with_tokens() {
    let bench = Bench::new();
    let mut run = bench.start(LONG);
    run.until_step(2);
    let tokens = bench.run("cert token --run told --count 2");
    assert_eq!((tokens.code, tokens.stdout.lines().count()), (0, 2), "{tokens:?}");
    std::fs::write(bench.path("tokens"), &tokens.stdout).unwrap();
    let port = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let served = bench.start(&format!("cert serve --run told --listen 127.0.0.1:{port}"));
    let line =
        format!("train told/recipe.toml --run told --ranks 1 --join 127.0.0.1:{port} --token-file tokens --json --set cluster.host=guest");
    let guest = bench.start(&line);
    let waited = bench.run("wait ranks=4 --run told --timeout 60s");
    assert_eq!(waited.code, 0, "{waited:?}");
    signal(guest.pid(), "TERM");
    let left = guest.end();
    assert_eq!(left.code, 0, "{left:?}");
    // A token is good once.
    let spent = bench.run(&line);
    assert!(spent.code != 0 && spent.stderr.contains("not let in"), "{spent:?}");
    signal(served.pid(), "INT");
    assert_eq!(served.end().code, 0);
    signal(run.pid(), "TERM");
    assert_eq!(run.end().code, 0);
}

/// The id that `cert issue` tells.
fn issued(bench: &Bench, role: &str, file: &str) -> String {
    let ran = bench.run(&format!("cert issue --run told --role {role} --ttl 1h -o {file}"));
    let id = ran.stderr.split("its id is ").nth(1).and_then(|rest| rest.split(':').next());
    id.unwrap_or_else(|| panic!("{ran:?}")).to_owned()
}

/// The nodes that lead, or that do not.
fn nodes(bench: &Bench, lead: bool) -> Vec<String> {
    let names = bench.run(&format!("get nodes --run told --filter leads={lead} -o name"));
    assert_eq!(names.code, 0, "{names:?}");
    names.stdout.lines().map(str::to_owned).collect()
}

/// What a status is answered with by somebody with this certificate: by the run, or by the store and why.
fn answered(bench: &Bench, certificate: &str) -> (i32, String) {
    let ran = bench.run(&format!("status --run told --certificate {certificate}"));
    (ran.code, ran.stderr)
}

/// The run answers it; a machine that is too busy for that is asked again.
fn served(bench: &Bench, certificate: &str) {
    let mut tries = (0..10).map(|_| answered(bench, certificate));
    assert!(tries.any(|(code, _)| code == 0), "nobody answers {certificate}");
}

/// The run answers it never; why, a machine too busy to hear it in time is told the next time.
fn refused(bench: &Bench, certificate: &str) {
    let mut because = String::new();
    for _ in 0..10 {
        let (code, said) = answered(bench, certificate);
        assert_eq!(code, 4, "{said}");
        because = said;
        if because.contains("was denied by an operator") {
            return;
        }
    }
    panic!("{because}");
}

#[test]
fn a_denied_certificate_opens_nothing_at_any_node_nor_after_a_restart() {
    let bench = Bench::new();
    let mut run = bench.start(LONG);
    run.until_step(2);
    let viewer = issued(&bench, "viewer", "viewer.pem");
    issued(&bench, "viewer", "other.pem");
    let admin = issued(&bench, "admin", "admin.pem");
    // A link that is up ends too: the watch goes on with what the store tells.
    let mut watch = bench.start("status --run told --certificate viewer.pem --watch -o jsonl");
    watch.until(|item| item["kind"] == "run" && item["state"] == "training");
    let denied = bench.run(&format!("cert deny {viewer} --run told --certificate admin.pem"));
    assert!(denied.code == 0 && denied.stdout.contains(&format!("{viewer} is denied")), "{denied:?}");
    assert!(denied.stdout.trim_end().ends_with("opens no new one"), "every node has shown that it knows it: {denied:?}");
    refused(&bench, "viewer.pem");
    served(&bench, "other.pem");
    watch.until(|item| item["kind"] == "run" && item["state"] == "silent");
    signal(watch.pid(), "INT");
    let watched = watch.end();
    assert!(watched.stderr.contains("nobody answers"), "{watched:?}");
    // A viewer denies nobody.
    let forbidden = bench.run(&format!("cert deny {admin} --run told --certificate other.pem"));
    assert!(forbidden.code == 7 && forbidden.sentence().contains("may look and not order"), "{forbidden:?}");
    assert_eq!(bench.run("cert deny nonsense --run told").code, 3);
    // Another leader knows it as well.
    assert_eq!(bench.run(&format!("kill {} --run told --yes", nodes(&bench, true)[0])).code, 0);
    run.until(|event| event["event"] == "node_lost");
    assert_eq!(bench.run("wait ranks=3 --run told --timeout 60s").code, 0);
    refused(&bench, "viewer.pem");
    signal(run.pid(), "TERM");
    assert_eq!(run.end().code, 0);
    // While nothing runs it is written down, and the next start knows both.
    let late = bench.run(&format!("cert deny {admin} --run told"));
    assert!(late.code == 0 && late.stdout.contains("nobody leads now"), "{late:?}");
    let listed = bench.run("cert denied --run told").stdout;
    assert!(listed.lines().count() == 2 && listed.contains(&viewer) && listed.contains(&admin), "{listed}");
    let events = bench.run("events --run told --json").stdout;
    for key in [&viewer, &admin] {
        let told = |line: &&str| line.contains(&format!("\"deny {key}\"")) && !line.contains("refused: ");
        assert_eq!(events.lines().filter(told).count(), 1, "{events}");
    }
    let mut run = bench.start(LONG);
    run.until(|event| event["event"] == "step_committed");
    refused(&bench, "viewer.pem");
    refused(&bench, "admin.pem");
    served(&bench, "other.pem");
    signal(run.pid(), "TERM");
    assert_eq!(run.end().code, 0);
}

#[test]
fn a_denied_node_leaves_and_the_run_goes_on() {
    let bench = Bench::new();
    let mut run = bench.start(LONG);
    run.until_step(2);
    let leader = nodes(&bench, true);
    let denied = bench.run(&format!("cert deny {} --run told", nodes(&bench, false)[0]));
    assert_eq!(denied.code, 0, "{denied:?}");
    assert_eq!(bench.run("wait ranks=2 --run told --timeout 60s").code, 0);
    assert_eq!(nodes(&bench, true), leader);
    let step = run_now(&bench)["properties"]["step"].as_u64().unwrap();
    assert_eq!(bench.run(&format!("wait step>={} --run told --timeout 60s", step + 5)).code, 0);
    // The leader puts itself out: the other one leads, and nothing is lost.
    let denied = bench.run(&format!("cert deny {} --run told", leader[0]));
    assert_eq!(denied.code, 0, "{denied:?}");
    assert_eq!(bench.run("wait ranks=1 --run told --timeout 60s").code, 0);
    assert_ne!(nodes(&bench, true), leader);
    let step = run_now(&bench)["properties"]["step"].as_u64().unwrap();
    assert_eq!(bench.run(&format!("wait step>={} --run told --timeout 60s", step + 5)).code, 0);
    let audit = bench.run("audit --run told");
    assert_eq!(audit.code, 0, "{audit:?}");
    let events = bench.run("events --run told --json").stdout;
    let told = |line: &&str| line.contains("\"ordered\"") && line.contains("\"deny n");
    assert_eq!(events.lines().filter(told).count(), 2, "{events}");
    signal(run.pid(), "TERM");
    assert_eq!(run.end().code, 0);
}
