//! The query of an address as a [`Question`]: `?kinds=actor,rank&under=node/n1&filter=depth>=10&sort=-depth&limit=50`.

use everstep_actors::desk::question::{Comparison, Condition, Kind, Question};

/// The most items of an answer when nobody says.
pub(super) const LIMIT: u64 = 1000;

/// The most items of an answer at all.
pub(super) const MOST: u64 = 10_000;

/// Names and values, decoded. What is not valid stays as it is.
pub(super) fn pairs(query: &str) -> Vec<(String, String)> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(|part| part.split_once('=').map_or_else(|| (decode(part), String::new()), |(n, v)| (decode(n), decode(v)))).collect()
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let hex = (first == b'%').then(|| after.get(..2)).flatten().and_then(|pair| std::str::from_utf8(pair).ok());
        match (first, hex.and_then(|pair| u8::from_str_radix(pair, 16).ok())) {
            (_, Some(byte)) => {
                bytes.push(byte);
                rest = &after[2..];
                continue;
            }
            (b'+', None) => bytes.push(b' '),
            (other, None) => bytes.push(other),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The question of an address.
pub(super) fn question(query: &str) -> Result<Question, String> {
    let mut question = Question { limit: Some(LIMIT), ..Question::default() };
    for (name, value) in pairs(query) {
        match name.as_str() {
            "kinds" => {
                for word in value.split(',').filter(|word| !word.is_empty()) {
                    question.kinds.push(kind(word)?);
                }
            }
            "under" => question.under = Some(value).filter(|under| !under.is_empty()),
            "filter" => {
                for text in value.split(',').filter(|text| !text.is_empty()) {
                    question.filter.push(condition(text)?);
                }
            }
            "sort" => question.sort = Some(value).filter(|sort| !sort.is_empty()),
            "limit" => question.limit = Some(number(&name, &value)?.min(MOST)),
            "token" => {}
            other => return Err(format!("there is no parameter `{other}`; there are kinds, under, filter, sort and limit")),
        }
    }
    Ok(question)
}

/// A number in an address.
pub(super) fn number(name: &str, value: &str) -> Result<u64, String> {
    value.parse().map_err(|_| format!("`{name}` takes a whole number, not `{value}`"))
}

fn kind(word: &str) -> Result<Kind, String> {
    // Plurals too: people write what the command line takes.
    let word = word.strip_suffix('s').unwrap_or(word);
    serde_json::from_value(word.into())
        .map_err(|_| format!("there is no kind `{word}`; there are run, node, rank, actor, lane, shard, checkpoint, event and link"))
}

fn condition(text: &str) -> Result<Condition, String> {
    const SIGNS: [(&str, Comparison); 7] = [
        ("!=", Comparison::Unequal),
        ("<=", Comparison::AtMost),
        (">=", Comparison::AtLeast),
        ("=", Comparison::Equal),
        ("<", Comparison::Less),
        (">", Comparison::Greater),
        ("~", Comparison::Contains),
    ];
    let first = SIGNS.iter().filter_map(|(sign, is)| text.find(sign).map(|at| (at, *sign, *is)));
    // The earliest sign counts; of two at one place the longer.
    match first.min_by_key(|(at, sign, _)| (*at, 2 - sign.len())) {
        Some((at, sign, is)) if at > 0 => {
            Ok(Condition { field: text[..at].trim().into(), is, value: text[at + sign.len()..].trim().into() })
        }
        _ => Err(format!("`{text}` is no condition; write for example state=failed or depth>=10")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_becomes_a_question() {
        let asked = question("kinds=actors,rank&under=node%2Fn1&filter=depth%3E%3D10,state!=idle&sort=-depth&limit=7").unwrap();
        assert_eq!((asked.kinds, asked.under.as_deref()), (vec![Kind::Actor, Kind::Rank], Some("node/n1")));
        assert_eq!((asked.sort.as_deref(), asked.limit), (Some("-depth"), Some(7)));
        let told: Vec<_> = asked.filter.iter().map(|c| (c.field.as_str(), c.is, c.value.as_str())).collect();
        assert_eq!(told, [("depth", Comparison::AtLeast, "10"), ("state", Comparison::Unequal, "idle")]);
    }

    #[test]
    fn answers_are_bounded() {
        assert_eq!(question("").unwrap().limit, Some(LIMIT));
        assert_eq!(question("limit=99999999").unwrap().limit, Some(MOST));
    }

    #[test]
    fn what_is_no_question_is_said_so() {
        for query in ["kinds=cat", "limit=-1", "filter=depth", "filter=%3D5", "order=kill"] {
            assert!(question(query).is_err(), "{query}");
        }
        assert_eq!(decode("a%zz%4%C3%A4+b%"), "a%zz%4ä b%");
        assert_eq!(condition("a~b=c").unwrap(), Condition { field: "a".into(), is: Comparison::Contains, value: "b=c".into() });
    }
}
