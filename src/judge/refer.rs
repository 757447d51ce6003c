//! References as people type them: `r2` for `rank/2`, the beginning of a node's id for the whole.

use everstep_actors::desk::view::{Item, View};

/// Names listed when a reference is not found or stands for several things.
const NAMES_MAX: usize = 8;

/// The whole reference of what was typed.
///
/// # Errors
/// One sentence: there is no such thing, or several, and which there are.
pub(crate) fn resolve(view: &View, typed: &str) -> Result<String, String> {
    let typed = typed.trim().trim_end_matches('/');
    if view.item(typed).is_some() {
        return Ok(typed.to_owned());
    }
    let whole = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let wanted = match typed.split_once('/') {
        None if typed.strip_prefix('r').is_some_and(whole) => format!("rank/{}", &typed[1..]),
        None => format!("node/{typed}"),
        Some(_) => typed.to_owned(),
    };
    let kind = wanted.split('/').next().unwrap_or_default().to_owned();
    let found: Vec<&Item> = view.items.iter().filter(|item| begins(&item.reference, &wanted)).collect();
    let listed = |items: &[&Item]| {
        let mut names: Vec<&str> = items.iter().take(NAMES_MAX).map(|item| item.reference.as_str()).collect();
        names.extend((items.len() > NAMES_MAX).then_some("…"));
        names.join(", ")
    };
    match found[..] {
        [item] => Ok(item.reference.clone()),
        [] => {
            let of_kind: Vec<&Item> = view.items.iter().filter(|item| item.reference.split('/').next() == Some(kind.as_str())).collect();
            Err(match of_kind.is_empty() {
                true => format!("there is no {wanted:?} in what the run shows; see `everstep tree`"),
                false => format!("there is no {wanted:?}: there are {}", listed(&of_kind)),
            })
        }
        _ => Err(format!("{typed:?} is the beginning of several: {}; type more of it", listed(&found))),
    }
}

/// Whether each part of `wanted` is the beginning of the same part of a reference; numbers have to be whole.
fn begins(reference: &str, wanted: &str) -> bool {
    let (whole, typed): (Vec<&str>, Vec<&str>) = (reference.split('/').collect(), wanted.split('/').collect());
    whole.len() == typed.len()
        && whole.iter().zip(&typed).all(|(whole, typed)| {
            let is_number = whole.bytes().all(|byte| byte.is_ascii_digit());
            whole == typed || !is_number && typed.len() >= 2 && whole.starts_with(typed)
        })
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{healthy, node};
    use super::*;

    #[test]
    fn short_references_stand_for_whole_ones() {
        let view = healthy(3);
        let found = |typed: &str| resolve(&view, typed).unwrap();
        assert_eq!(
            (found("run"), found("r2"), found("rank/2"), found("lane/4")),
            ("run".into(), "rank/2".into(), "rank/2".into(), "lane/4".into())
        );
        assert_eq!(found("n02"), format!("node/{}", node(2)));
        assert_eq!(found("node/n0303"), format!("node/{}", node(3)));
        assert_eq!(found("actor/n02/rank"), format!("actor/{}/rank", node(2)));
        assert_eq!(found("link/n01/n03"), format!("link/{}/{}", node(1), node(3)));
    }

    #[test]
    fn what_is_not_there_or_not_clear_names_what_there_is() {
        let view = healthy(12);
        let wrong = |typed: &str| resolve(&view, typed).unwrap_err();
        assert!(wrong("n0").contains("several") && wrong("n0").contains('…'));
        assert!(wrong("rank/99").contains("rank/0, rank/1"), "{}", wrong("rank/99"));
        assert!(wrong("shoe/1").contains("everstep tree"));
        assert_eq!(resolve(&view, "rank/1").unwrap(), "rank/1", "rank/11 is another");
        let mut many = healthy(101);
        many.items.retain(|item| item.reference != "rank/10");
        assert!(resolve(&many, "rank/10").is_err(), "numbers are whole: rank/100 is another");
    }
}
