//! From a file and the command line's overrides to a checked recipe.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use toml::{Table, Value};

use super::Recipe;
use super::error::{ConfigError, Invalid};
use super::places::Places;

/// No recipe is longer than this many bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Keys of which one is given; an override of one removes the others that the file gives.
const ALTERNATIVES: [&[&str]; 3] =
    [&["run.steps", "run.passes"], &["data.train", "data.make"], &["model.trunk", "model.design", "model.stages"]];

/// One value laid over those of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Override {
    /// What the user typed, to name it in a complaint (`--steps 0`).
    pub place: String,
    /// The full key (`section.key`).
    pub key: String,
    /// Its text, in TOML's value syntax or bare.
    pub text: String,
}

impl Override {
    /// From the argument of `--set`: `section.key=value`.
    ///
    /// # Errors
    /// There is no `=`, or no key before it.
    pub fn parse(argument: &str) -> Result<Self, ConfigError> {
        let place = format!("--set {argument}");
        match argument.split_once('=') {
            Some((key, text)) if !key.trim().is_empty() => Ok(Self { place, key: key.trim().into(), text: text.trim().into() }),
            _ => Err(ConfigError::Invalid {
                place,
                invalid: Invalid {
                    key: argument.into(),
                    problem: "is no setting".into(),
                    remedy: "write it as section.key=value, such as run.steps=100".into(),
                },
            }),
        }
    }

    /// The values that the text can mean, the likelier first: TOML's, then a bare string.
    fn readings(&self) -> Vec<Value> {
        let parsed = toml::from_str::<Table>(&format!("value = {}", self.text)).ok();
        let typed = parsed.filter(|table| table.len() == 1).and_then(|mut table| table.remove("value"));
        typed.into_iter().chain([Value::String(self.text.clone())]).collect()
    }
}

impl Recipe {
    /// Reads a recipe, lays overrides (`section.key=value`) over it and checks the whole.
    ///
    /// # Errors
    /// The file cannot be read, is no TOML, or says something that cannot be.
    pub fn load(path: impl AsRef<Path>, overrides: &[String]) -> Result<Self, ConfigError> {
        let overrides = overrides.iter().map(|argument| Override::parse(argument)).collect::<Result<Vec<_>, _>>()?;
        Self::load_with(path, &overrides)
    }

    /// The same with overrides that come from flags of their own.
    ///
    /// # Errors
    /// As [`Recipe::load`].
    pub fn load_with(path: impl AsRef<Path>, overrides: &[Override]) -> Result<Self, ConfigError> {
        let file = path.as_ref().display().to_string();
        let text = read(path.as_ref()).map_err(|why| ConfigError::Unreadable { path: file.clone(), why })?;
        Self::from_text(&file, &text, overrides)
    }

    /// The same from a text; `file` is the name that complaints give it.
    ///
    /// # Errors
    /// As [`Recipe::load`], reading aside.
    pub fn from_text(file: &str, text: &str, overrides: &[Override]) -> Result<Self, ConfigError> {
        let syntax = |error: toml::de::Error| ConfigError::Syntax {
            place: Places::place(file, text, error.span().map_or(0, |span| span.start)),
            why: one_line(error.message()),
        };
        let places = Places::parse(file, text).map_err(syntax)?;
        let mut recipe: Self = toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start);
            let key = places.key_at(offset).unwrap_or_default();
            ConfigError::Invalid { place: Places::place(file, text, offset), invalid: explain(key, error.message()) }
        })?;
        let mut table: Table = toml::from_str(text).map_err(syntax)?;
        for over in overrides {
            (table, recipe) = apply(&table, over).map_err(|invalid| ConfigError::Invalid { place: over.place.clone(), invalid })?;
        }
        recipe.check().map_err(|invalid| {
            let flag = overrides.iter().rev().find(|over| over.key == invalid.key);
            let place = flag.map_or_else(|| places.of(&invalid.key), |over| over.place.clone());
            ConfigError::Invalid { place, invalid }
        })?;
        Ok(recipe)
    }
}

fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(MAX_BYTES + 1).read_to_string(&mut text).map_err(|error| error.to_string())?;
    if text.len() as u64 > MAX_BYTES { Err(format!("it is longer than {MAX_BYTES} bytes")) } else { Ok(text) }
}

/// The table and the recipe with one value more.
fn apply(table: &Table, over: &Override) -> Result<(Table, Recipe), Invalid> {
    let mut table = table.clone();
    for group in ALTERNATIVES.iter().filter(|group| group.contains(&over.key.as_str())) {
        for (section, name) in group.iter().filter(|key| **key != over.key).filter_map(|key| key.split_once('.')) {
            if let Some(Value::Table(section)) = table.get_mut(section) {
                section.remove(name);
            }
        }
    }
    let mut first_problem = None;
    for value in over.readings() {
        let mut candidate = table.clone();
        insert(&mut candidate, &over.key, value)?;
        match Value::Table(candidate.clone()).try_into::<Recipe>() {
            Ok(recipe) => return Ok((candidate, recipe)),
            Err(error) => first_problem = first_problem.or_else(|| Some(explain(&over.key, error.message()))),
        }
    }
    Err(first_problem.unwrap_or_else(|| explain(&over.key, "has no value: give one")))
}

/// Puts a value at a dotted key; tables that are not there yet are made, arrays are entered by index.
fn insert(table: &mut Table, key: &str, value: Value) -> Result<(), Invalid> {
    let no_table = |part: &str| Invalid {
        key: key.into(),
        problem: format!("enters `{part}`, which holds no such part"),
        remedy: "name a key as section.key".into(),
    };
    let mut parts = key.split('.').peekable();
    let first = parts.next().unwrap_or_default();
    if parts.peek().is_none() {
        table.insert(first.into(), value);
        return Ok(());
    }
    let mut at = table.entry(first).or_insert_with(|| Value::Table(Table::new()));
    let mut name = first;
    for part in parts {
        at = match at {
            Value::Table(inner) => inner.entry(part).or_insert_with(|| Value::Table(Table::new())),
            Value::Array(items) => part.parse::<usize>().ok().and_then(|index| items.get_mut(index)).ok_or_else(|| no_table(name))?,
            _ => return Err(no_table(name)),
        };
        name = part;
    }
    *at = value;
    Ok(())
}

/// Turns what serde says about a value into key, problem and remedy.
fn explain(key: &str, message: &str) -> Invalid {
    let message = one_line(message);
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    let invalid = |key: &str, problem: String, remedy: String| Invalid { key: key.into(), problem, remedy };
    if message.starts_with("unknown field")
        && let Some((unknown, known)) = quoted.split_first()
    {
        let key = if key.is_empty() { unknown } else { key };
        let remedy = nearest(unknown, known)
            .map_or_else(|| format!("the keys here are {}", known.join(", ")), |near| format!("did you mean `{near}`?"));
        return invalid(key, "is not a known key".into(), remedy);
    }
    if message.starts_with("unknown variant")
        && let Some((unknown, known)) = quoted.split_first()
    {
        return invalid(key, format!("is \"{unknown}\""), format!("use \"{}\"", known.join("\" or \"")));
    }
    if message.starts_with("missing field")
        && let Some(field) = quoted.first()
    {
        let key = if key.is_empty() { (*field).to_owned() } else { format!("{key}.{field}") };
        return invalid(&key, "is missing".into(), "add it".into());
    }
    let typed = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    if let Some((given, expected)) = typed.and_then(|rest| rest.split_once(", expected ")) {
        return invalid(key, format!("is {given}"), format!("give {}", plain_type(expected)));
    }
    match message.split_once(": ") {
        Some((problem, remedy)) => invalid(key, problem.into(), remedy.into()),
        None => invalid(key, format!("cannot be used ({message})"), "correct the value".into()),
    }
}

/// A Rust type in the words of someone who writes a recipe.
fn plain_type(expected: &str) -> &str {
    match expected {
        "u32" | "u64" | "usize" => "a whole number from 0",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" => "a text in quotes",
        "a sequence" => "a list in brackets",
        other => other,
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The known key with the fewest edits from the unknown one, if they are few.
fn nearest<'a>(unknown: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().map(|known| (edits(unknown, known), *known)).min()?;
    (best.0 <= 2.max(unknown.chars().count() / 3)).then_some(best.1)
}

/// Levenshtein distance.
fn edits(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
