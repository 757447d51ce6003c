//! Indexes of folders, tars and patterns, and when a cached one no longer counts.

use super::*;
use crate::data::source::tests::tar;
use tempfile::tempdir;

fn refused(place: &Path) -> String {
    let error = Index::open(place.to_str().unwrap(), None).unwrap_err().to_string();
    assert!(error.contains(place.to_str().unwrap()) && error.contains(';') && !error.contains('\n'), "place and remedy: {error}");
    error
}

#[test]
fn what_is_not_a_source_gets_one_sentence() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    assert!(refused(&root.join("nowhere")).contains("no such file"));
    assert!(refused(root).contains("no images"));
    std::fs::write(root.join("a.txt"), "text").unwrap();
    assert!(refused(root).contains("no images"));
    assert!(refused(&root.join("a.txt")).contains("neither a folder nor a .tar"));
    assert!(refused(&root.join("*.tar")).contains("no .tar matches"));
    assert!(refused(&root.join("s-{0..3}.tar")).contains("s-0.tar does not exist"));
    assert!(refused(&root.join("s-{0..3.tar")).contains("not closed"));
    std::fs::write(root.join("t.tar"), tar(&[("a.txt", b"text")])).unwrap();
    assert!(refused(&root.join("t.tar")).contains("no images"));
    std::fs::write(root.join("b.jpg"), "x").unwrap();
    assert!(refused(root).contains("both images and .tar"));
}

#[test]
fn tars_with_dangerous_or_damaged_entries_are_refused() {
    let folder = tempdir().unwrap();
    let shard = folder.path().join("s.tar");
    let entry = |name: &[u8], kind: tar::EntryType| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.resize(512 * 3, 0);
        bytes
    };
    for (name, kind, problem) in [
        (&b"../up.jpg"[..], tar::EntryType::Regular, "refused"),
        (b"a/../../up.jpg", tar::EntryType::Regular, "refused"),
        (b"/root.jpg", tar::EntryType::Regular, "refused"),
        (b"link.jpg", tar::EntryType::Symlink, "not a plain file"),
        (b"hard.jpg", tar::EntryType::Link, "not a plain file"),
        (b"dev.jpg", tar::EntryType::Block, "not a plain file"),
        (b"fifo.jpg", tar::EntryType::Fifo, "not a plain file"),
        (b"a\xff.jpg", tar::EntryType::Regular, "not UTF-8"),
    ] {
        std::fs::write(&shard, entry(name, kind)).unwrap();
        assert!(refused(&shard).contains(problem), "{}", refused(&shard));
    }
    let whole = tar(&[("a.jpg", &[1; 2000])]);
    std::fs::write(&shard, &whole[..1500]).unwrap();
    assert!(refused(&shard).contains("cut short"));
    std::fs::write(&shard, [7; 2048]).unwrap();
    assert!(refused(&shard).contains("not a whole tar"));
    // A long name of 1 MB is refused before it is read.
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::GNULongName);
    header.set_size(1 << 20);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.resize(512 + (1 << 20) + 1024, b'a');
    std::fs::write(&shard, bytes).unwrap();
    assert!(refused(&shard).contains("extended headers"));
}

#[test]
fn an_unchanged_source_comes_from_the_cache_and_a_changed_one_does_not() {
    let folder = tempdir().unwrap();
    let cache = tempdir().unwrap();
    let shard = folder.path().join("s.tar");
    let place = shard.to_str().unwrap();
    std::fs::write(&shard, tar(&[("x/a.jpg", b"1"), ("x/a.json", b"{}"), ("y/b.jpg", b"2")])).unwrap();
    let built = Index::open(place, Some(cache.path())).unwrap();
    let file = cache::file_of(cache.path(), place);
    // Mark the cached index, so that it can be told from a new one.
    let key = Listing::find(place).unwrap().key();
    let mut marked = built.clone();
    marked.classes[0] = "from the cache".into();
    cache::write(&file, &key, &marked).unwrap();
    assert_eq!(Index::open(place, Some(cache.path())).unwrap(), marked);

    let mut bytes = std::fs::read(&file).unwrap();
    for broken in [20, 100, 300] {
        bytes[broken] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        assert_eq!(Index::open(place, Some(cache.path())).unwrap(), built, "byte {broken}: a corrupt cache is built again");
        assert_eq!(cache::read(&file, &key).as_ref(), Some(&built), "and replaced");
        bytes = std::fs::read(&file).unwrap();
    }
    std::fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(Index::open(place, Some(cache.path())).unwrap(), built);

    cache::write(&file, &key, &marked).unwrap();
    std::fs::write(&shard, tar(&[("x/a.jpg", b"1"), ("z/c.jpg", b"3"), ("y/b.jpg", b"2")])).unwrap();
    let changed = Index::open(place, Some(cache.path())).unwrap();
    assert_eq!(changed.classes, ["x", "y", "z"]);
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 1, "one file per source, nothing left beside it");
}

#[test]
fn a_cache_that_cannot_be_written_is_no_obstacle() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("a.jpg"), b"1").unwrap();
    let file = folder.path().join("a.jpg");
    assert_eq!(Index::open(folder.path().to_str().unwrap(), Some(&file)).unwrap().names.len(), 1);
}
