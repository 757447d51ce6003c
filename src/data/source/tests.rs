//! Reading images back from every kind of source.

use super::*;
use tempfile::tempdir;

/// A PNG of one colour.
pub(crate) fn png(width: u32, height: u32, color: [u8; 3]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(width, height, image::Rgb(color)).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// A tar of entries.
pub(crate) fn tar(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn open(place: &Path) -> Result<Source, OpenError> {
    Source::open(place.to_str().unwrap(), None)
}

#[test]
fn a_folder_gives_bytes_labels_and_attributes() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    std::fs::create_dir_all(root.join("x/dog")).unwrap();
    std::fs::create_dir_all(root.join("cat")).unwrap();
    std::fs::write(root.join("x/dog/1.JPG"), b"one").unwrap();
    std::fs::write(root.join("x/dog/1.json"), br#"{"region":"north","age":3,"tags":[1]}"#).unwrap();
    std::fs::write(root.join("cat/2.png"), b"two!").unwrap();
    std::fs::write(root.join("cat/2.cls"), b"lion\n").unwrap();
    std::fs::write(root.join("3.webp"), b"three").unwrap();
    std::fs::write(root.join(".4.png"), b"hidden").unwrap();
    std::fs::write(root.join("notes.txt"), b"text").unwrap();
    let source = open(root).unwrap();
    let names: Vec<&str> = (0..source.len()).map(|i| source.name(i)).collect();
    assert_eq!(names, ["3.webp", "cat/2.png", "x/dog/1.JPG"]);
    assert_eq!(source.classes(), ["dog", "lion"]);
    assert_eq!([0, 1, 2].map(|i| source.label(i)), [None, Some(1), Some(0)]);
    assert_eq!(&source.bytes(2).unwrap()[..], b"one");
    assert_eq!(source.shards(), [3]);
    let attributes = source.attributes(2).unwrap();
    assert_eq!(attributes["region"], Attribute::Text("north".into()));
    assert_eq!(attributes["age"], Attribute::Number(3.0));
    assert_eq!(attributes.len(), 2);
    assert!(source.attributes(0).unwrap().is_empty());
}

#[test]
fn shards_in_a_pattern_or_a_folder_are_read_in_place() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    let long = format!("{}/7.jpg", "d".repeat(150));
    let first =
        tar(&[("0001.jpg", b"aaa"), ("0001.cls", b"7"), ("0001.json", br#"{"region":"south"}"#), ("0002.png", b"bb"), ("0002.cls", b"2")]);
    let second = tar(&[("readme.txt", b"x"), (&long, b"cccc"), ("./0003.webp", b"d"), ("0003.cls", b"0")]);
    std::fs::write(root.join("s-00.tar"), first).unwrap();
    std::fs::write(root.join("s-01.tar"), second).unwrap();
    let source = open(&root.join("s-{00..01}.tar")).unwrap();
    assert_eq!(source.shards(), [2, 2]);
    assert_eq!((0..4).map(|i| source.bytes(i).unwrap().to_vec()).collect::<Vec<_>>(), [&b"aaa"[..], b"bb", b"cccc", b"d"]);
    assert_eq!(source.name(2), long);
    assert_eq!(source.name(3), "0003.webp");
    assert_eq!(source.attributes(0).unwrap()["region"], Attribute::Text("south".into()));
    // One label is a folder's name, so all are names.
    assert_eq!(source.label(1).map(|l| source.classes()[l as usize].as_str()), Some("2"));
    let digest = source.digest();
    for place in ["*.tar", "s-{00,01}.tar", ""] {
        assert_eq!(open(&root.join(place)).unwrap().digest(), digest, "{place}");
    }
    let one = open(&root.join("s-00.tar")).unwrap();
    assert_ne!(one.digest(), digest);
    assert_eq!((one.label(0), one.label(1), one.classes().len()), (Some(7), Some(2), 8), "numbers stay as they are");
}

#[test]
fn many_shards_do_not_keep_many_files_open() {
    let folder = tempdir().unwrap();
    for i in 0..40 {
        std::fs::write(folder.path().join(format!("{i:02}.tar")), tar(&[("a.jpg", &[i])])).unwrap();
    }
    let source = open(folder.path()).unwrap();
    for i in (0..40).chain(0..40) {
        assert_eq!(source.bytes(i).unwrap()[..], [i as u8]);
    }
    assert_eq!(source.open.lock().unwrap().len(), OPEN_FILES);
}

#[test]
fn files_that_change_under_a_run_are_an_error_not_another_image() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("a.jpg"), b"12345").unwrap();
    let source = open(folder.path()).unwrap();
    std::fs::write(folder.path().join("a.jpg"), b"1").unwrap();
    let error = source.bytes(0).unwrap_err();
    assert!(matches!(error, ReadError::Io { .. }) && error.to_string().contains("a.jpg"), "{error}");
}

#[test]
fn attributes_that_are_not_an_object_are_named() {
    let folder = tempdir().unwrap();
    std::fs::write(folder.path().join("a.jpg"), b"1").unwrap();
    std::fs::write(folder.path().join("a.json"), b"[1, 2]").unwrap();
    let error = open(folder.path()).unwrap().attributes(0).unwrap_err().to_string();
    assert!(error.contains("a.jpg") && error.contains(".json"), "{error}");
}
