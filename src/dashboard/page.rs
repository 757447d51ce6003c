//! The page: one file within the binary, with a new nonce each time it is sent.

use hyper::StatusCode;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue};

use super::guard::random_hex;
use super::routes::{Answer, broken, whole};

const PAGE: &str = include_str!("page.html");

/// The page and what it may do: run its own script, use its own style, ask this server. Text never becomes markup.
pub(super) fn answer() -> Result<Answer, (StatusCode, String)> {
    let nonce = random_hex().map_err(broken)?;
    let mut answer = whole(StatusCode::OK, "text/html; charset=utf-8", PAGE.replace("{{nonce}}", &nonce));
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; connect-src 'self'; img-src data:; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    );
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, HeaderValue::from_str(&policy).map_err(broken)?);
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::PAGE;

    #[test]
    fn the_page_needs_nothing_from_elsewhere_and_never_makes_markup_of_text() {
        for word in [
            "http://",
            "https://",
            "//cdn",
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            " onclick=",
            " style=",
        ] {
            let found = PAGE.match_indices(word).find(|(at, _)| !PAGE[*at..].starts_with("http://www.w3.org/2000/svg"));
            assert!(found.is_none(), "{word} at {found:?}");
        }
        assert_eq!(PAGE.matches("nonce=\"{{nonce}}\"").count(), 2, "one script, one style");
    }
}
