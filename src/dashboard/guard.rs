//! Who may look: on loopback whoever names it as such, elsewhere who has the token.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hyper::header::{AUTHORIZATION, COOKIE, HOST};
use hyper::{HeaderMap, StatusCode, Uri};

use super::query;

/// What a request has to show.
#[derive(Debug)]
pub(super) struct Guard {
    port: u16,
    token: Option<String>,
}

/// A request that may pass.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// As it is.
    Plain,
    /// It came with the token in its address: it gets this cookie.
    Cookie(String),
}

impl Guard {
    /// No token, but the `Host` header has to name this machine: a page from elsewhere whose name was made to point to 127.0.0.1
    /// (DNS rebinding) sends its own name.
    pub(super) fn loopback(port: u16) -> Self {
        Self { port, token: None }
    }

    /// The guard of an address: with a token unless only this machine can reach it, or `always`.
    pub(super) fn of(bound: SocketAddr, always: bool) -> Result<Self, String> {
        if bound.ip().is_loopback() && !always { Ok(Self::loopback(bound.port())) } else { Self::with_token(bound.port()) }
    }

    /// A new random token.
    pub(super) fn with_token(port: u16) -> Result<Self, String> {
        Ok(Self { port, token: Some(random_hex()?) })
    }

    /// The address that a person opens.
    pub(super) fn url(&self, bound: SocketAddr) -> String {
        let shown = match bound.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        let address = SocketAddr::new(shown, bound.port());
        self.token.as_ref().map_or_else(|| format!("http://{address}/"), |token| format!("http://{address}/?token={token}"))
    }

    /// Lets a request pass, or says why not.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<Pass, (StatusCode, &'static str)> {
        // A page from elsewhere cannot read the answers, but it could take all places of those who listen.
        let says = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if ["cross-site", "same-site"].contains(&says("sec-fetch-site")) && says("sec-fetch-mode") != "navigate" {
            return Err((StatusCode::FORBIDDEN, "another page asks for this; only its own page may"));
        }
        let Some(token) = &self.token else {
            return if names_this_machine(headers) {
                Ok(Pass::Plain)
            } else {
                Err((StatusCode::FORBIDDEN, "this page answers to 127.0.0.1, ::1 and localhost only; open it under one of these names"))
            };
        };
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(|value| value.strip_prefix("Bearer "));
        if bearer.is_some_and(|given| same(given.trim(), token)) || self.cookies(headers).any(|given| same(given, token)) {
            return Ok(Pass::Plain);
        }
        let given = query::pairs(uri.query().unwrap_or_default()).into_iter().find(|(name, _)| name == "token");
        match given {
            Some((_, given)) if same(&given, token) => {
                Ok(Pass::Cookie(format!("{}={token}; HttpOnly; SameSite=Strict; Path=/", self.cookie_name())))
            }
            _ => Err((
                StatusCode::UNAUTHORIZED,
                "a token is needed: open the address that `everstep dashboard` printed, or send `Authorization: Bearer TOKEN`",
            )),
        }
    }

    /// Cookies do not know ports: each page on a machine has its own name.
    fn cookie_name(&self) -> String {
        format!("everstep_{}", self.port)
    }

    fn cookies<'a>(&self, headers: &'a HeaderMap) -> impl Iterator<Item = &'a str> {
        let name = self.cookie_name();
        let all = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
        all.filter_map(move |cookie| cookie.trim().split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    }

    #[cfg(test)]
    pub(super) fn token(&self) -> &str {
        self.token.as_deref().unwrap_or_default()
    }
}

fn names_this_machine(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
    let Ok(host) = host.to_str() else { return false };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(ip, _)| ip),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Compares in a time that tells nothing of where two texts differ: BLAKE3 hashes compare in constant time.
fn same(a: &str, b: &str) -> bool {
    blake3::hash(a.as_bytes()) == blake3::hash(b.as_bytes())
}

/// 128 random bits as text.
pub(super) fn random_hex() -> Result<String, String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|error| format!("the operating system gives no random bytes: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse::<hyper::header::HeaderName>().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn on_loopback_only_its_own_names_pass() {
        let guard = Guard::loopback(9494);
        let passes = |host: &str| guard.check(&Uri::from_static("/"), &headers(&[("host", host)])).is_ok();
        for host in ["127.0.0.1:9494", "localhost", "LOCALHOST:1", "[::1]:9494", "127.8.8.8"] {
            assert!(passes(host), "{host}");
        }
        for host in ["evil.example:9494", "127.0.0.1.evil.example", "localhost.evil.example", "10.0.0.1", "[::2]", "[", ""] {
            assert!(!passes(host), "{host}");
        }
        assert!(guard.check(&Uri::from_static("/"), &HeaderMap::new()).is_err());
    }

    #[test]
    fn the_token_passes_as_bearer_as_cookie_and_once_in_the_address() {
        let guard = Guard::with_token(7).unwrap();
        let token = guard.token().to_owned();
        assert_eq!(token.len(), 32);
        let plain = Uri::from_static("/v1/view");
        let passes = |uri: &Uri, pairs: &[(&str, &str)]| guard.check(uri, &headers(pairs)).is_ok();
        assert!(passes(&plain, &[("authorization", &format!("Bearer {token}"))]));
        assert!(passes(&plain, &[("cookie", &format!("a=b; everstep_7={token}"))]));
        assert!(!passes(&plain, &[("cookie", &format!("everstep_8={token}"))]), "the cookie of another port");
        assert!(!passes(&plain, &[("authorization", "Bearer ")]));
        assert!(!passes(&plain, &[("authorization", &format!("Bearer {}", &token[..31]))]));
        assert!(!passes(&"/?token=".parse().unwrap(), &[]) && !passes(&plain, &[]));
        let given: Uri = format!("/?token={token}").parse().unwrap();
        let Ok(Pass::Cookie(cookie)) = guard.check(&given, &HeaderMap::new()) else { panic!("no cookie") };
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    }

    #[test]
    fn only_loopback_goes_without_a_token_and_the_address_to_open_has_it() {
        let url = |address: &str, always| Guard::of(address.parse().unwrap(), always).unwrap().url(address.parse().unwrap());
        assert_eq!(url("127.0.0.1:9494", false), "http://127.0.0.1:9494/");
        assert_eq!(url("[::1]:9494", false), "http://[::1]:9494/");
        for (address, always) in [("127.0.0.1:9494", true), ("10.1.2.3:80", false), ("[2001:db8::1]:80", false)] {
            assert!(url(address, always).starts_with(&format!("http://{address}/?token=")), "{address}");
        }
        assert!(url("0.0.0.0:9494", false).starts_with("http://127.0.0.1:9494/?token="));
        assert!(url("[::]:9494", false).starts_with("http://[::1]:9494/?token="));
    }

    #[test]
    fn pages_from_elsewhere_may_link_here_and_nothing_more() {
        let guard = Guard::loopback(9494);
        let passes = |site: &str, mode: &str| {
            let all = headers(&[("host", "localhost"), ("sec-fetch-site", site), ("sec-fetch-mode", mode)]);
            guard.check(&Uri::from_static("/events"), &all).is_ok()
        };
        assert!(passes("same-origin", "cors") && passes("none", "navigate") && passes("cross-site", "navigate"));
        assert!(!passes("cross-site", "no-cors") && !passes("cross-site", "cors") && !passes("same-site", "cors"));
    }

    #[test]
    fn no_two_tokens_are_alike() {
        assert_ne!(random_hex().unwrap(), random_hex().unwrap());
    }
}
