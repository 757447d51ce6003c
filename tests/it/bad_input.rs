//! Bad input ends in one sentence with place and remedy, or is survived and named.

use std::process::Command;

use super::bench_of_runs::{Bench, RECIPE, Ran};

#[test]
fn what_cannot_start_says_so_in_one_sentence() {
    let bench = Bench::new();
    std::fs::create_dir_all(bench.path("empty")).unwrap();
    std::fs::create_dir_all(bench.path("texts")).unwrap();
    std::fs::write(bench.path("texts/a.txt"), "no image").unwrap();
    std::fs::write(bench.path("typo.toml"), RECIPE.replace("iterations", "iteration")).unwrap();
    let table = [
        ("train typo.toml", 78, vec!["typo.toml:", "`swav.iteration`", "did you mean"]),
        ("train recipe.toml --set optim.lr=-1", 78, vec!["optim.lr", "--set"]),
        ("train nowhere.toml", 78, vec!["nowhere.toml", "give the path of a recipe"]),
        ("train recipe.toml --data missing", 78, vec!["missing: there is no such file or folder", "give a folder of images"]),
        ("train recipe.toml --data empty", 78, vec!["empty: there are no images", "it needs .jpg"]),
        ("train recipe.toml --data texts", 78, vec!["texts: there are no images", "it needs .jpg"]),
        ("train recipe.toml --run s3://bucket/run", 78, vec!["s3://", "name a folder"]),
        ("train recipe.toml --ranks 9", 78, vec!["--ranks 9", "at most 4 ranks"]),
        ("train recipe.toml --device abacus", 78, vec!["device.name", "flex"]),
        ("digest --run nowhere", 3, vec!["nowhere"]),
        ("status --run nowhere", 3, vec!["nowhere"]),
        ("eval knn --run nowhere --train a --test b", 3, vec!["nowhere"]),
    ];
    for (line, code, words) in table {
        let ran = bench.run(line);
        assert_eq!(ran.code, code, "{ran:?}");
        let sentence = ran.sentence();
        assert!(words.iter().all(|word| sentence.contains(word)), "{line}: {sentence}");
    }
}

#[test]
fn another_recipe_for_the_same_run_is_refused_and_names_the_keys() {
    let bench = Bench::new();
    assert_eq!(bench.run("train recipe.toml --run one --json").code, 0);
    let ran = bench.run("train recipe.toml --run one --set optim.lr=2 --set swav.epsilon=0.04");
    assert_eq!(ran.code, 78, "{ran:?}");
    let sentence = ran.sentence();
    assert!(sentence.contains("optim.lr") && sentence.contains("swav.epsilon"), "{sentence}");
}

/// One truncated JPEG and one PNG that claims 60,000 × 60,000 pixels among good images.
#[test]
fn bad_images_are_replaced_counted_and_named_and_too_many_end_the_run() {
    let bench = Bench::new();
    let folder = bench.path("photos");
    std::fs::create_dir_all(&folder).unwrap();
    let good = |i: u32| image::RgbImage::from_fn(40, 40, |x, y| image::Rgb([(x * 6) as u8, (y * 6) as u8, (i * 9) as u8]));
    for i in 0..30 {
        good(i).save(folder.join(format!("{i:03}.jpg"))).unwrap();
    }
    let jpeg = std::fs::read(folder.join("000.jpg")).unwrap();
    std::fs::write(folder.join("truncated.jpg"), &jpeg[..jpeg.len() / 2]).unwrap();
    let mut png = Vec::new();
    good(1).write_to(&mut std::io::Cursor::new(&mut png), image::ImageFormat::Png).unwrap();
    png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&60_000u32.to_be_bytes());
    std::fs::write(folder.join("bomb.png"), png).unwrap();
    let ran = bench.run("train recipe.toml --data photos --run survived --json --set data.bad_share_max=0.1");
    assert_eq!(ran.code, 0, "{ran:?}");
    let named = std::fs::read_to_string(bench.path("survived/bad-samples.jsonl")).unwrap();
    assert!(named.contains("truncated.jpg") && named.contains("bomb.png"), "{named}");
    for i in 0..1_000 {
        std::fs::write(folder.join(format!("bad{i}.jpg")), &jpeg[..100]).unwrap();
    }
    let ran = bench.run("train recipe.toml --data photos --run spoiled --json");
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.sentence().contains("bad"), "{}", ran.sentence());
}

/// A disk that fills up: training goes on without its checkpoints. The last one is held by the members until there is room.
#[test]
fn a_last_checkpoint_waits_for_room_and_an_operator_may_give_it_up() {
    let bench = Bench::new();
    let (Some(disk), Some(_given_up)) = (Disk::mount(bench.path("small")), Disk::mount(bench.path("given-up"))) else {
        println!("skipped: this user may not mount a small disk");
        return;
    };
    let full = |event: &serde_json::Value| event["event"] == "waiting" && event["because"].as_str().unwrap().contains("no space is left");
    let start = |disk: &str| {
        let mut running = bench.start(&format!("train recipe.toml --run {disk}/run --json --set checkpoint.keep=100"));
        let told = running.until(full);
        assert!(told["because"].as_str().unwrap().contains("the last checkpoint, after step 14"), "{told}");
        running
    };
    let summary = |ran: &Ran| serde_json::from_str::<serde_json::Value>(ran.stdout.lines().last().unwrap()).unwrap();

    let running = start("small");
    let why = bench.run("why waiting --run small/run");
    assert!(why.stdout.contains("no space is left") && why.stdout.contains("checkpoint_writer"), "{why:?}");
    disk.grow();
    let ended = running.end();
    assert_eq!((ended.code, summary(&ended)["checkpoint"].as_u64()), (0, Some(14)), "{ended:?}");

    let running = start("given-up");
    let refused = bench.run("stop --run given-up/run --now");
    assert!(refused.code == 2 && refused.stderr.contains("--yes"), "{refused:?}");
    assert_eq!(bench.run("stop --run given-up/run --now --yes").code, 0);
    let ended = running.end();
    let summary = summary(&ended);
    assert_eq!((ended.code, summary["outcome"].as_str(), summary["checkpoint"].as_u64()), (0, Some("stopped"), Some(4)), "{ended:?}");
}

/// A file system of 192 KiB in memory, gone at the end whatever becomes of the story.
struct Disk(std::path::PathBuf);

impl Disk {
    fn mount(at: std::path::PathBuf) -> Option<Self> {
        std::fs::create_dir_all(&at).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=192k", "tmpfs"]).arg(&at).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(at))
    }

    fn grow(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=64m"]).arg(&self.0).output().unwrap();
        assert!(grown.status.success(), "{grown:?}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}
