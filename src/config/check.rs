//! Small checks of single values, each ending in a complaint with a remedy.

use std::fmt::Display;

use super::error::Invalid;

/// `Ok` if it holds; else the problem and the remedy that `complaint` tells.
pub(super) fn require(holds: bool, key: &str, complaint: impl FnOnce() -> (String, String)) -> Result<(), Invalid> {
    if holds {
        return Ok(());
    }
    let (problem, remedy) = complaint();
    Err(Invalid { key: key.into(), problem, remedy })
}

/// The value lies in `low..=high` (a NaN does not).
pub(super) fn within<T: PartialOrd + Display>(key: &str, value: T, low: T, high: T) -> Result<(), Invalid> {
    require(value >= low && value <= high, key, || (format!("is {value}"), format!("use a value from {low} to {high}")))
}

/// The value is finite and above zero.
pub(super) fn positive(key: &str, value: f64) -> Result<(), Invalid> {
    require(value.is_finite() && value > 0.0, key, || (format!("is {value}"), "use a finite value above 0".into()))
}

/// The value is finite and not negative.
pub(super) fn not_negative(key: &str, value: f64) -> Result<(), Invalid> {
    require(value.is_finite() && value >= 0.0, key, || (format!("is {value}"), "use 0 or a finite value above".into()))
}

/// The value is a share.
pub(super) fn fraction(key: &str, value: f64) -> Result<(), Invalid> {
    within(key, value, 0.0, 1.0)
}

/// Exactly one of the named keys is present.
pub(super) fn exactly_one(keys: &[(&str, bool)]) -> Result<(), Invalid> {
    let given: Vec<&str> = keys.iter().filter(|(_, given)| *given).map(|(key, _)| *key).collect();
    let all = keys.iter().map(|(key, _)| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    match given[..] {
        [_] => Ok(()),
        [] => Err(Invalid { key: keys[0].0.into(), problem: "is missing".into(), remedy: format!("give exactly one of {all}") }),
        [first, second, ..] => Err(Invalid {
            key: second.into(),
            problem: format!("and `{first}` are both given"),
            remedy: format!("keep exactly one of {all}"),
        }),
    }
}
