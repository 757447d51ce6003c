//! Brace and glob patterns of tar shards, as WebDataset writes them: `train-{000000..000012}.tar`, `{a,b}.tar`, `*.tar`.

use std::path::{Path, PathBuf};

use super::{ListedFile, Listing, OpenError, SHARDS_MAX, has_extension};

/// Whether a string has any character that only a pattern has.
pub(super) fn is_pattern(place: &str) -> bool {
    place.contains(['*', '?', '[', '{'])
}

/// The shards of a pattern: braces in the order written, globs sorted.
pub(super) fn list(pattern: &str) -> Result<Listing, OpenError> {
    let wrong = |problem: &str| OpenError::Pattern { pattern: pattern.to_owned(), problem: problem.to_owned() };
    let mut shards = Vec::new();
    for part in expand(pattern).map_err(wrong)? {
        if !part.contains(['*', '?', '[']) {
            let path = PathBuf::from(&part);
            let metadata = std::fs::metadata(&path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => OpenError::ShardMissing { pattern: pattern.to_owned(), shard: path.clone() },
                _ => OpenError::io(&path)(error),
            })?;
            if !metadata.is_file() || !has_extension(&path, &["tar"]) {
                return Err(OpenError::NotTar(part));
            }
            shards.push(ListedFile::new(path, &metadata));
            continue;
        }
        for path in glob::glob(&part).map_err(|error| wrong(error.msg))? {
            let path = path.map_err(|error| OpenError::Io { path: error.path().to_owned(), source: error.into() })?;
            let metadata = std::fs::metadata(&path).map_err(OpenError::io(&path))?;
            if metadata.is_file() && has_extension(&path, &["tar"]) {
                shards.push(ListedFile::new(path, &metadata));
            }
            if shards.len() > SHARDS_MAX {
                return Err(OpenError::TooMany(pattern.to_owned()));
            }
        }
    }
    if shards.is_empty() {
        return Err(OpenError::NoMatch(pattern.to_owned()));
    }
    Ok(Listing::Shards(shards))
}

/// Expands braces, the first one first.
fn expand(pattern: &str) -> Result<Vec<String>, &'static str> {
    let mut done = vec![String::new()];
    let mut rest = Path::new(pattern).to_str().unwrap_or(pattern);
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after.split_once('}').ok_or("a brace is not closed")?;
        if inside.contains('{') {
            return Err("braces inside braces are not supported");
        }
        let choices = match inside.split_once("..") {
            Some((first, last)) => range(first, last)?,
            None => inside.split(',').map(str::to_owned).collect(),
        };
        if done.len().saturating_mul(choices.len()) > SHARDS_MAX {
            return Err("it expands to more than a million shards");
        }
        done = done.iter().flat_map(|head| choices.iter().map(move |choice| format!("{head}{before}{choice}"))).collect();
        rest = after;
    }
    done.iter_mut().for_each(|head| head.push_str(rest));
    Ok(done)
}

fn range(first: &str, last: &str) -> Result<Vec<String>, &'static str> {
    const NUMBERS: &str = "a range needs two numbers, the smaller first";
    let number = |text: &str| text.parse::<u64>().map_err(|_| NUMBERS);
    let (from, to) = (number(first)?, number(last)?);
    if from > to {
        return Err(NUMBERS);
    }
    if to - from >= SHARDS_MAX as u64 {
        return Err("it expands to more than a million shards");
    }
    Ok((from..=to).map(|n| format!("{n:0width$}", width = first.len())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_expand_as_in_a_shell() {
        assert_eq!(expand("a-{008..010}.tar").unwrap(), ["a-008.tar", "a-009.tar", "a-010.tar"]);
        assert_eq!(expand("{x,y}/{0..1}.tar").unwrap(), ["x/0.tar", "x/1.tar", "y/0.tar", "y/1.tar"]);
        assert_eq!(expand("plain.tar").unwrap(), ["plain.tar"]);
        for wrong in ["{0..9", "{9..0}", "{a..b}", "{0..99999999999}", "{a,{b}}", "{0..9999}{0..9999}"] {
            assert!(expand(wrong).is_err(), "{wrong}");
        }
    }
}
