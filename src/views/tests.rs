//! What holds for every way to show a view: it bears any values, and it is quick with many ranks.

use std::time::{Duration, Instant};

use clap::ValueEnum as _;
use everstep_actors::desk::view::View;
use serde_json::{Value, json};

use super::describe::describe;
use super::human::width;
use super::output::{Output, render};
use super::sample::view;
use super::select::resolve;
use super::status::status;
use super::talk::notes;
use super::tree::tree;

/// Everything that can be shown of a view.
fn everything(view: &View) -> String {
    let mut text: String = Output::value_variants().iter().map(|output| render(view, &[], *output)).collect();
    view.items.iter().for_each(|item| text += &describe(view, item));
    text + &tree(view, None) + &status(view, &[]) + &notes(view).join("\n")
}

/// The same view with other numbers and texts; references stay, so that it hangs together.
fn changed(json: &mut Value, number: &Value, text: &str) {
    match json {
        Value::Number(_) => *json = number.clone(),
        Value::Array(values) => values.iter_mut().for_each(|value| changed(value, number, text)),
        Value::Object(fields) => {
            let fixed = ["reference", "parent", "children", "kind", "scope", "node", "from", "to", "rank", "owner", "copies"];
            let small = ["pid", "open_files", "ranks", "lanes", "owns", "restarts", "lane", "parts", "schema_version"];
            for (name, value) in fields.iter_mut().filter(|(name, _)| !fixed.contains(&name.as_str())) {
                match value {
                    Value::String(_) => *value = text.into(),
                    Value::Number(_) if small.contains(&name.as_str()) => *value = json!(u32::MAX),
                    Value::Array(_) if name == "lanes" => *value = json!([u32::MAX, 0]),
                    other => changed(other, number, text),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[test]
fn the_greatest_and_smallest_values_do_no_harm() {
    let hostile = "\u{1b}]0;\u{7}\n\r\u{9b}31m幅".repeat(50);
    for (number, text) in [(json!(u64::MAX), hostile.as_str()), (json!(0), ""), (json!(1), "/"), (json!(i64::MAX as u64 + 1), "node/")] {
        let mut json = serde_json::to_value(view(2)).unwrap();
        changed(&mut json, &number, text);
        let extreme: View = serde_json::from_value(json).unwrap();
        let text = everything(&extreme);
        assert!(!text.contains('\x1b') && !text.contains('\u{7}') && !text.contains('\r'), "{text}");
        for narrow in [render(&extreme, &[], Output::Table), tree(&extreme, None)] {
            assert!(narrow.lines().all(|line| width(line) <= 100), "{narrow}");
        }
    }
}

#[test]
fn five_hundred_ranks_are_shown_while_one_waits() {
    let many = view(500);
    let quick = |what: &str, show: &dyn Fn() -> usize| {
        let started = Instant::now();
        assert!(show() > 0, "{what}");
        // Generous: this is the unoptimized program, on whatever machine.
        assert!(started.elapsed() < Duration::from_secs(5), "{what} took {:?}", started.elapsed());
    };
    for output in Output::value_variants() {
        quick("a list", &|| render(&many, &[], *output).len());
    }
    quick("a description", &|| describe(&many, &many.items[1]).len());
    quick("a tree", &|| tree(&many, None).len());
    quick("the status", &|| status(&many, &[]).len());
    quick("a wrong name", &|| resolve(&many, "actor/n0a1b2c3d/loadre").unwrap_err().sentence.len());
}
