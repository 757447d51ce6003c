//! Making and inspecting images.

use everstep::cli::ExitCode;
use everstep::commands::data::contact_sheet_path;

use crate::fixture::{everstep, fail, images, jpeg, succeed};

#[test]
fn made_data_can_be_inspected() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("made");
    let place = dir.to_str().unwrap();
    let arguments = ["data", "make", place, "--images", "120", "--test", "30", "--size", "24"];
    let (stdout, stderr, code) = everstep(&arguments);
    assert_eq!(code, 0, "{stderr}");
    assert!(stdout.contains("now holds 120 train and 30 test images of 10 classes"), "{stdout}");
    let lines: Vec<&str> = stderr.lines().collect();
    assert!(
        !lines.is_empty() && lines.len() <= 10 && lines.iter().all(|line| line.ends_with("of 150 images")),
        "plain lines on a pipe: {stderr}"
    );
    let sheet = image::open(contact_sheet_path(&dir)).unwrap();
    assert!(sheet.width() > 10 * 24 && sheet.height() > 10 * 24);
    assert!(succeed(&arguments).contains("already holds"));

    let train = format!("{place}/train-*.tar");
    let json: serde_json::Value = serde_json::from_str(&succeed(&["data", "inspect", &train, "--json"])).unwrap();
    assert_eq!((json["images"].as_u64(), json["looked_at"].as_u64(), json["unlabelled"].as_u64()), (Some(120), Some(120), Some(0)));
    assert_eq!(json["classes"].as_array().unwrap().len(), 10);
    assert_eq!(json["classes"][0][1].as_u64(), Some(12));
    assert_eq!(json["sizes"]["median"], serde_json::json!([24, 24]));
    let regions = json["attributes"]["region"]["texts"].as_object().unwrap();
    assert_eq!((regions.len(), regions.values().map(|count| count.as_u64().unwrap()).sum::<u64>()), (4, 120));
    let text = succeed(&["data", "inspect", place]);
    assert!(text.contains("150 images in 2 shards") && text.contains("attribute region of 150 images: east"), "{text}");

    let other = fail(&["data", "make", place, "--images", "121", "--test", "30", "--size", "24"], ExitCode::Refused as i32);
    assert!(other.contains(place), "{other}");
}

#[test]
fn a_folder_is_inspected_and_its_bad_images_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = images(folder.path(), &["cat", "dog"], 3, 0);
    let whole = jpeg(0, 7);
    std::fs::write(root.join("cat/cut.jpg"), &whole[..whole.len() / 2]).unwrap();
    std::fs::write(root.join("alone.jpg"), &whole).unwrap();
    std::fs::write(root.join("cat/000.json"), br#"{"age": 3, "place": "roof"}"#).unwrap();
    std::fs::write(root.join("cat/001.json"), br#"{"age": 5}"#).unwrap();
    std::fs::write(root.join("cat/002.json"), b"[]").unwrap();
    // A PNG that claims 60,000 × 60,000 pixels.
    let mut huge = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0".to_vec();
    huge.extend([0; 4]);
    std::fs::write(root.join("dog/huge.png"), huge).unwrap();
    let place = root.to_str().unwrap();
    let text = succeed(&["data", "inspect", place]);
    assert!(text.contains("9 images\n") && text.contains("2 classes (cat 4, dog 4), 1 images without a label"), "{text}");
    assert!(text.contains("sizes: 24×24 to 24×24") && text.contains("unreadable: 3"), "{text}");
    assert!(text.contains("attribute age of 2 images: 3 to 5") && text.contains("attribute place of 1 images: roof 1"), "{text}");
    for name in ["cat/cut.jpg", "dog/huge.png", "cat/002.jpg"] {
        assert!(text.contains(name), "{name}: {text}");
    }
}

#[test]
fn sources_without_images_end_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().to_str().unwrap();
    assert!(fail(&["data", "inspect", place], ExitCode::Config as i32).contains("there are no images"));
    std::fs::write(folder.path().join("notes.txt"), "text").unwrap();
    let problem = fail(&["data", "inspect", place], ExitCode::Config as i32);
    assert!(problem.contains(place) && problem.contains("it needs .jpg"), "{problem}");
    assert!(fail(&["data", "inspect", "/nowhere"], ExitCode::NotFound as i32).contains("/nowhere"));
    let file = folder.path().join("notes.txt");
    assert!(fail(&["data", "inspect", file.to_str().unwrap()], ExitCode::Config as i32).contains("neither a folder nor a .tar"));
    assert!(fail(&["data", "make", file.to_str().unwrap(), "--images", "1"], ExitCode::Refused as i32).contains("is a file"));
}
