//! A store's guarantees, over a folder, over memory and over a store with faults.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::{ObjectStore, PutMode, PutOptions};

use super::faulty::{Fault, Faulty, Trouble};
use super::{Created, Store, StoreError};

fn folder() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("run").to_str().unwrap()).unwrap();
    (dir, store)
}

fn faulty() -> (Arc<Faulty>, Store) {
    let faulty = Arc::new(Faulty::new(Arc::new(InMemory::new())));
    (Arc::clone(&faulty), Store::with(faulty, "run"))
}

/// The harness of another process switches it on and off.
#[tokio::test]
async fn answers_are_lost_while_the_switch_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let switch = folder.path().join("switch");
    let inner = Arc::new(InMemory::new());
    let store = Store::with(Arc::new(Faulty::switched(inner, switch.clone())), "switched");
    store.put("a", Bytes::from_static(b"1")).await.unwrap();
    std::fs::write(&switch, "").unwrap();
    for key in ["b", "c", "d", "e"] {
        assert!(store.put(key, Bytes::from_static(b"2")).await.is_err(), "{key}");
    }
    assert_eq!(std::fs::read(&switch).unwrap().len(), 4, "each that met it is counted");
    std::fs::remove_file(&switch).unwrap();
    let mut there = Vec::new();
    for key in ["a", "b", "c", "d", "e"] {
        there.extend(store.get(key, 10).await.ok().map(|_| key));
    }
    assert_eq!(there, ["a", "b", "d"], "every other one took effect");
    store.put("f", Bytes::from_static(b"3")).await.unwrap();
    assert!(!switch.exists());
}

#[tokio::test]
async fn create_has_one_winner_among_many() {
    let (_dir, store) = folder();
    let bodies: Vec<Bytes> = (0..16).map(|n| Bytes::from(format!("nonce {n}"))).collect();
    let tasks: Vec<_> = bodies
        .iter()
        .map(|body| {
            let (store, body) = (store.clone(), body.clone());
            tokio::spawn(async move { store.create("epochs/1", body).await.unwrap() })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    let winners: Vec<usize> = (0..16).filter(|n| outcomes[*n] == Created::Mine).collect();
    assert_eq!(winners.len(), 1, "{outcomes:?}");
    let kept = store.get("epochs/1", 100).await.unwrap();
    assert_eq!(kept, bodies[winners[0]]);
    assert!(outcomes.iter().all(|o| *o == Created::Mine || *o == Created::Exists(kept.clone())));
}

#[tokio::test]
async fn a_lost_answer_is_cleared_up_by_a_look() {
    let (faults, store) = faulty();
    faults.fail(0, Fault::AnswerLost);
    assert_eq!(store.create("epochs/1", "a".into()).await, Ok(Created::Mine));
    assert_eq!(store.create("epochs/1", "b".into()).await, Ok(Created::Exists("a".into())));
    // The same body again is a retry of the same caller.
    assert_eq!(store.create("epochs/1", "a".into()).await, Ok(Created::Mine));
}

#[tokio::test]
async fn a_torn_create_is_not_mine() {
    let (faults, store) = faulty();
    faults.fail(0, Fault::Torn);
    assert_eq!(store.create("epochs/1", "abcd".into()).await, Ok(Created::Exists("ab".into())));
}

#[tokio::test(start_paused = true)]
async fn a_late_create_is_still_the_callers() {
    let (faults, store) = faulty();
    faults.fail(0, Fault::Late(Duration::from_secs(60)));
    assert_eq!(store.create("epochs/1", "a".into()).await, Ok(Created::Mine));
}

#[tokio::test]
async fn failures_are_told_apart() {
    let (faults, store) = faulty();
    faults.fail(0, Fault::Full);
    faults.fail(1, Fault::ReadOnly);
    faults.fail(2, Fault::Crash);
    let place = "run/a".to_string();
    assert_eq!(store.create("a", "x".into()).await, Err(StoreError::Full { place: place.clone() }));
    assert_eq!(store.put("a", "x").await, Err(StoreError::ReadOnly { place }));
    assert!(matches!(store.put("a", "x").await, Err(StoreError::Unavailable { .. })));
    assert!(matches!(store.get("a", 1).await, Err(StoreError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_trouble_lasts_until_it_is_taken_back() {
    let (faults, store) = faulty();
    store.put("a", "x").await.unwrap();
    faults.trouble(1, Trouble::Away(Duration::from_secs(3)));
    assert!(store.get("a", 1).await.is_err() && store.list("").await.is_err() && store.put("a", "y").await.is_err());
    faults.trouble(2, Trouble::ReadOnly);
    assert_eq!(store.put("a", "y").await, Err(StoreError::ReadOnly { place: "run/a".into() }));
    assert_eq!(store.get("a", 1).await.unwrap(), "x");
    faults.trouble(3, Trouble::Full("large/"));
    assert_eq!(store.put("large/b", "1").await, Err(StoreError::Full { place: "run/large/b".into() }));
    store.put("b", "1").await.unwrap();
    faults.trouble(4, Trouble::Unknown);
    let mut taken = 0;
    for n in 0..4 {
        assert!(store.put("c", format!("{n}")).await.is_err());
        taken += u32::from(store.get("c", 1).await.is_ok_and(|body| body == format!("{n}")));
    }
    assert_eq!(taken, 2, "every other one takes effect");
    faults.trouble(5, Trouble::Late(Duration::from_secs(2)));
    let began = tokio::time::Instant::now();
    store.put("a", "z").await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2));
    let met: u64 = (1..=5).map(|number| faults.mend(number)).sum();
    assert!(met > 0, "it counts what it met");
    assert_eq!((store.create("d", "mine".into()).await, store.get("a", 1).await.unwrap()), (Ok(Created::Mine), "z".into()));
}

#[tokio::test]
async fn a_folder_stores_what_it_is_given() {
    let (_dir, store) = folder();
    store.put("checkpoints/parts/1/b", "bb").await.unwrap();
    store.put("checkpoints/parts/1/b", "bbb").await.unwrap();
    store.put("checkpoints/parts/1/a", "a").await.unwrap();
    assert_eq!(store.head("checkpoints/parts/1/b").await, Ok(Some(3)));
    assert_eq!(store.head("checkpoints/parts/1/c").await, Ok(None));
    assert_eq!(store.get_ranges("checkpoints/parts/1/b", &[0..1, 2..3]).await.unwrap(), ["b", "b"]);
    let keys: Vec<String> = store.list("checkpoints").await.unwrap().into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["checkpoints/parts/1/a", "checkpoints/parts/1/b"]);
    assert_eq!(store.folders("checkpoints/parts").await.unwrap(), ["1"]);
    store.delete("checkpoints/parts/1/a").await.unwrap();
    store.delete("checkpoints/parts/1/a").await.unwrap();
    assert_eq!(store.list("checkpoints").await.unwrap().len(), 1);
    let none = store.get("none", 1).await;
    assert_eq!(none, Err(StoreError::NotFound { place: store.at("none") }));
    assert!(matches!(store.put("../escape", "x").await, Err(StoreError::BadKey { .. })));
}

#[tokio::test]
async fn nothing_beyond_the_cap_is_read() {
    let (_dir, store) = folder();
    store.put("big", vec![0u8; 100]).await.unwrap();
    assert_eq!(store.get("big", 99).await, Err(StoreError::TooLarge { place: store.at("big"), bytes: 100, cap: 99 }));
    assert_eq!(store.get("big", 100).await.unwrap().len(), 100);
}

#[tokio::test]
async fn a_writer_that_died_leaves_nothing_visible() {
    let (_dir, store) = folder();
    // What a process killed inside a put leaves behind.
    let parts = store.folder().unwrap().join("parts");
    std::fs::create_dir_all(&parts).unwrap();
    std::fs::write(parts.join("a#1"), b"half").unwrap();
    assert_eq!(store.list("parts").await.unwrap(), []);
    store.put("parts/a", "whole").await.unwrap();
    assert_eq!(store.get("parts/a", 10).await.unwrap(), "whole");
    store.sweep("parts").await.unwrap();
    assert!(!parts.exists());
}

#[tokio::test]
async fn a_hashed_object_is_the_same_in_a_folder_and_elsewhere() {
    let (_dir, folder) = folder();
    let (_, memory) = faulty();
    let data = vec![Bytes::from(vec![1u8; 300 << 10]), Bytes::new(), Bytes::from(vec![2u8; 9 << 20])];
    let hash = blake3::hash(&data.concat());
    for store in [&folder, &memory] {
        // Twice: another holder of the shard may write it as well.
        for _ in 0..2 {
            let put = store.put_hashed("parts/1", "head".into(), data.clone(), |hash| format!("a-{hash}")).await.unwrap();
            assert_eq!(put, (hash, format!("parts/1/a-{hash}")));
        }
        let key = format!("parts/1/a-{hash}");
        assert_eq!(store.get(&key, 10 << 20).await.unwrap(), [b"head", &data.concat()[..]].concat());
        assert_eq!(store.list("parts").await.unwrap().len(), 1);
    }
    let left = std::fs::read_dir(folder.folder().unwrap().join("parts/1")).unwrap().count();
    assert_eq!(left, 1, "no unfinished file is left");
}

#[tokio::test]
async fn a_hashed_object_that_cannot_be_written_is_named_and_leaves_nothing() {
    let (_dir, store) = folder();
    store.put("parts/1", "a file where a folder should be").await.unwrap();
    let failed = store.put_hashed("parts/1", "head".into(), vec![], |_| "a".into()).await;
    assert_eq!(failed, Err(StoreError::NotAFolder { place: store.at("parts/1") }));
    // The name is taken by a folder: the rename fails at the very end.
    store.put("parts/2/a/b", "x").await.unwrap();
    assert!(store.put_hashed("parts/2", "head".into(), vec!["data".into()], |_| "a".into()).await.is_err());
    let left: Vec<_> = std::fs::read_dir(store.folder().unwrap().join("parts/2")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left, ["a"]);
}

#[test]
fn bad_locations_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, b"").unwrap();
    let file = file.to_str().unwrap().to_string();
    assert_eq!(Store::open(&file).unwrap_err(), StoreError::NotAFolder { place: file.clone() });
    let below = format!("{file}/run");
    assert_eq!(Store::open(&below).unwrap_err(), StoreError::NotAFolder { place: below });
    assert_eq!(Store::open("").unwrap_err(), StoreError::NotAFolder { place: String::new() });
    let bucket = Store::open("s3://bucket/run").unwrap_err();
    assert_eq!(bucket, StoreError::Unsupported { place: "s3://bucket/run".into(), scheme: "s3".into() });
    assert_eq!(bucket.to_string(), "s3://bucket/run: this build has no support for s3:// locations; name a folder instead");
    let none = dir.path().join("none").to_str().unwrap().to_string();
    assert_eq!(Store::open_existing(&none).unwrap_err(), StoreError::NotFound { place: none.clone() });
    assert!(!std::path::Path::new(&none).exists(), "opening for reading creates nothing");
}

#[cfg(unix)]
#[test]
fn a_read_only_folder_is_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).unwrap();
    // The superuser may write there all the same; nobody may in /sys.
    let place = if std::fs::write(dir.path().join("trial"), b"").is_ok() { "/sys/kernel" } else { dir.path().to_str().unwrap() };
    assert_eq!(Store::open(place).unwrap_err(), StoreError::ReadOnly { place: place.into() });
    assert!(Store::open_existing(place).is_ok());
}

#[tokio::test]
async fn a_probe_finds_a_store_without_exclusion() {
    let (_dir, store) = folder();
    assert_eq!(store.probe("n1").await, Ok(()));
    assert_eq!(store.list("probes").await.unwrap(), []);

    let careless = Store::with(Arc::new(Careless(InMemory::new())), "careless");
    assert_eq!(careless.probe("n1").await, Err(StoreError::NotExclusive { place: "careless".into() }));
}

/// Overwrites where it was asked to create.
#[derive(Debug)]
struct Careless(InMemory);

impl std::fmt::Display for Careless {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Careless")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Careless {
    async fn put_opts(
        &self,
        location: &object_store::path::Path,
        payload: object_store::PutPayload,
        _: PutOptions,
    ) -> object_store::Result<object_store::PutResult> {
        self.0.put_opts(location, payload, PutOptions::from(PutMode::Overwrite)).await
    }
    async fn put_multipart_opts(
        &self,
        location: &object_store::path::Path,
        opts: object_store::PutMultipartOptions,
    ) -> object_store::Result<Box<dyn object_store::MultipartUpload>> {
        self.0.put_multipart_opts(location, opts).await
    }
    async fn get_opts(
        &self,
        location: &object_store::path::Path,
        options: object_store::GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        self.0.get_opts(location, options).await
    }
    fn delete_stream(
        &self,
        locations: futures::stream::BoxStream<'static, object_store::Result<object_store::path::Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::path::Path>> {
        self.0.delete_stream(locations)
    }
    fn list(
        &self,
        prefix: Option<&object_store::path::Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<object_store::ObjectMeta>> {
        self.0.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&object_store::path::Path>) -> object_store::Result<object_store::ListResult> {
        self.0.list_with_delimiter(prefix).await
    }
    async fn copy_opts(
        &self,
        from: &object_store::path::Path,
        to: &object_store::path::Path,
        options: object_store::CopyOptions,
    ) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
