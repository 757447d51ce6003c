//! How judgements are laid out and written: tables of at most 100 columns, talk on stderr, data on stdout.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;

use crate::cli::{ExitCode, Failure};
use crate::report::tame;
use crate::views::output::Output;

/// The width that no default output exceeds.
pub(crate) const WIDTH: usize = 100;

/// Text on one line of at most `width` characters; what is cut is marked.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let text = tame(text);
    if text.chars().count() <= width {
        return text;
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// Rows in columns that line up, no space at the ends of lines. The last column takes what is left of the width, if one is given.
pub(crate) fn table<const N: usize>(rows: &[[String; N]], width: Option<usize>) -> Vec<String> {
    let rows: Vec<[String; N]> = rows.iter().map(|row| std::array::from_fn(|column| tame(&row[column]))).collect();
    let widths: [usize; N] = std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        let line = cells.join("  ");
        width.map_or_else(|| line.trim_end().to_owned(), |width| fit(line.trim_end(), width))
    };
    rows.iter().map(line).collect()
}

/// Text broken between words into lines of at most `width`, the later ones indented.
pub(crate) fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let text = tame(text);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let last = lines.len() - 1;
        let used = lines[last].chars().count();
        if used > if last == 0 { 0 } else { indent } && used + 1 + word.chars().count() > width {
            lines.push(format!("{}{word}", " ".repeat(indent)));
        } else {
            let line = &mut lines[last];
            if !line.trim().is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}

/// A name, and a text in a column of its own that starts at `column`.
pub(crate) fn named(name: &str, text: &str, column: usize) -> Vec<String> {
    let lines = wrap(text, WIDTH.saturating_sub(column), 0).into_iter().enumerate();
    lines.map(|(number, line)| format!("{:<column$}{line}", if number == 0 { name } else { "" })).collect()
}

/// Writes a line of data; `false` when nobody reads any more, which ends the output and not the command's success.
///
/// # Errors
/// Stdout takes no more for another reason.
pub(crate) fn data(out: &mut dyn Write, line: &str) -> Result<bool, Failure> {
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::new(ExitCode::Failed, format!("stdout cannot be written ({error}); free space or direct it elsewhere"))),
    }
}

/// Writes lines of data, as [`data`].
///
/// # Errors
/// As [`data`].
pub(crate) fn lines(out: &mut dyn Write, lines: &[String]) -> Result<(), Failure> {
    for line in lines {
        if !data(out, line)? {
            break;
        }
    }
    Ok(())
}

/// Writes one JSON document in one line.
///
/// # Errors
/// As [`data`].
pub(crate) fn json(out: &mut dyn Write, value: &impl Serialize) -> Result<bool, Failure> {
    let text = serde_json::to_string(value).map_err(|error| Failure::new(ExitCode::Internal, format!("no JSON can be made: {error}")))?;
    data(out, &text)
}

/// An answer in all forms that it can be written in.
pub(crate) struct Shapes<'a, W, P> {
    /// Lines for people.
    pub(crate) text: Vec<String>,
    /// The whole answer, for programs.
    pub(crate) whole: &'a W,
    /// Its items.
    pub(crate) parts: &'a [P],
    /// What it is about, by name.
    pub(crate) names: Vec<String>,
}

/// Writes an answer in one form: what it is about is named once.
///
/// # Errors
/// As [`data`].
pub(crate) fn shaped<W: Serialize, P: Serialize>(out: &mut dyn Write, form: Output, shapes: Shapes<'_, W, P>) -> Result<(), Failure> {
    match form {
        Output::Table | Output::Wide => lines(out, &shapes.text),
        Output::Json => json(out, shapes.whole).map(drop),
        Output::Jsonl => {
            for part in shapes.parts {
                if !json(out, part)? {
                    break;
                }
            }
            Ok(())
        }
        Output::Name => {
            let mut told = BTreeSet::new();
            let names: Vec<String> = shapes.names.iter().map(|name| tame(name)).filter(|name| told.insert(name.clone())).collect();
            lines(out, &names)
        }
    }
}

/// Says something on stderr; if nobody listens, the command goes on.
pub(crate) fn talk(text: &str) {
    drop(writeln!(io::stderr().lock(), "{}", tame(text)));
}

/// `1 rank`, `2 ranks`.
pub(crate) fn count(number: u64, one: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {one}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_fit_and_say_what_was_cut() {
        assert_eq!(fit("short", 5), "short");
        assert_eq!(fit("a long one", 6), "a lon…");
        assert_eq!(fit("esc\x1b[2J", 20), "esc [2J");
        let rows = [["A".to_owned(), "B".to_owned()], ["long".to_owned(), "x".repeat(50)]];
        let lines = table(&rows, Some(12));
        assert_eq!(lines, ["A     B", "long  xxxxx…"]);
        assert_eq!(wrap("one two three four", 9, 2), ["one two", "  three", "  four"]);
        assert_eq!(wrap("", 9, 2), [""]);
        let long = named("name", &"word ".repeat(30), 10);
        assert!(long.len() == 2 && long[0].starts_with("name      word") && long[1].starts_with("          word"), "{long:#?}");
        assert!(long.iter().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn an_answer_is_written_in_the_form_that_was_asked_for() {
        let told = |form: Output| {
            let mut out = Vec::new();
            let names = ["rank/1", "rank/0", "rank/1"].map(str::to_owned).to_vec();
            shaped(&mut out, form, Shapes { text: vec!["in words".into()], whole: &[1, 2], parts: &[1, 2], names }).unwrap();
            String::from_utf8(out).unwrap()
        };
        let all = [Output::Table, Output::Wide, Output::Json, Output::Jsonl, Output::Name].map(told);
        assert_eq!(all, ["in words\n", "in words\n", "[1,2]\n", "1\n2\n", "rank/1\nrank/0\n"]);
    }

    #[test]
    fn a_closed_pipe_ends_the_output_alone() {
        struct Closed(ErrorKind);
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(self.0.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        assert!(!data(&mut Closed(ErrorKind::BrokenPipe), "x").unwrap());
        assert_eq!(data(&mut Closed(ErrorKind::StorageFull), "x").unwrap_err().code, ExitCode::Failed);
    }
}
