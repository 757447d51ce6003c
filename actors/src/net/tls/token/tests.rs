//! Tokens: good once, in time, for this run, and no others.

use super::*;
use crate::net::tls::{KeyName, Peer};

const HOUR: Duration = Duration::from_secs(3600);

fn run() -> (Arc<RunCa>, Tokens) {
    let ca = Arc::new(RunCa::generate("demo").unwrap());
    (ca.clone(), Tokens::new(ca, HOUR))
}

fn now_ms() -> u64 {
    now().as_secs() * 1000
}

#[test]
fn a_token_gives_a_node_that_has_not_seen_the_authoritys_key() {
    let (ca, mut tokens) = run();
    let text = JoinToken::mint(&ca, HOUR).unwrap();
    assert_eq!(text.len(), 96);
    assert!(text[6..].bytes().all(|char| char.is_ascii_lowercase() || char.is_ascii_digit()), "{text}");
    let token = JoinToken::parse(&format!("  {}\n", text.to_uppercase())).unwrap();

    let applicant = Applicant::new().unwrap();
    let pem = tokens.redeem(&text, applicant.public_key(), now_ms()).unwrap();
    assert!(!pem.contains("PRIVATE"));
    let identity = applicant.accept(&token, &pem).unwrap();
    assert_eq!((identity.peer().role, identity.peer().run.as_str()), (Role::Node, "demo"));
    assert!(identity.until_ms() <= now_ms() + 3_600_000 && identity.until_ms() > now_ms() + 3_500_000);
    assert_eq!(identity.id(), Peer::id_of_key(&*identity.key));
}

#[test]
fn an_authority_that_was_written_and_read_again_knows_its_tokens() {
    let (ca, _) = run();
    let again = Arc::new(RunCa::from_pem(&ca.to_pem()).unwrap());
    let token = JoinToken::mint(&ca, HOUR).unwrap();
    Tokens::new(again, HOUR).redeem(&token, [1; 32], now_ms()).unwrap();
}

#[test]
fn a_token_counts_once() {
    let (ca, mut tokens) = run();
    let (one, two) = (JoinToken::mint(&ca, HOUR).unwrap(), JoinToken::mint(&ca, HOUR).unwrap());
    tokens.redeem(&one, [1; 32], now_ms()).unwrap();
    assert_eq!(tokens.redeem(&one, [2; 32], now_ms()), Err(TokenError::Spent));
    tokens.redeem(&one, [1; 32], now_ms()).expect("the answer may have been lost");
    tokens.redeem(&two, [2; 32], now_ms()).expect("each token counts for itself");
}

#[test]
fn a_token_counts_once_among_processes_and_after_restarts() {
    let (ca, _) = run();
    let dir = tempfile::tempdir().unwrap();
    let open = || Tokens::kept_in(ca.clone(), HOUR, &dir.path().join("spent")).unwrap();
    let token = JoinToken::mint(&ca, HOUR).unwrap();
    let won: usize = std::thread::scope(|scope| {
        let tries = (0..8u8).map(|n| {
            let (token, mut tokens) = (&token, open());
            scope.spawn(move || usize::from(tokens.redeem(token, [n; 32], now_ms()).is_ok()))
        });
        tries.collect::<Vec<_>>().into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(won, 1);
    assert_eq!(open().redeem(&token, [9; 32], now_ms()), Err(TokenError::Spent));

    // What has expired is forgotten, because it cannot be used any more.
    let later = now_ms() + 2 * 3_600_000;
    let fresh = JoinToken::mint_until(&ca, later / 1000 + 60).unwrap();
    open().redeem(&fresh, [3; 32], later).unwrap();
    open().redeem(&fresh, [3; 32], later).expect("the answer may have been lost");
    assert_eq!(std::fs::read_dir(dir.path().join("spent")).unwrap().count(), 1);
    assert!(matches!(open().redeem(&token, [9; 32], later), Err(TokenError::Expired { .. })));
}

#[test]
fn a_token_ends_in_time() {
    let (ca, mut tokens) = run();
    let token = JoinToken::mint_until(&ca, 1000).unwrap();
    assert_eq!(tokens.redeem(&token, [1; 32], 1_007_000), Err(TokenError::Expired { ago_s: 7 }));
    tokens.redeem(&token, [1; 32], 1_000_999).expect("in its last second it is good");
}

#[test]
fn forged_tokens_and_those_of_other_runs_are_refused() {
    let (ca, mut tokens) = run();
    let other = RunCa::generate("demo").unwrap();
    let foreign = JoinToken::mint(&other, HOUR).unwrap();
    assert_eq!(tokens.redeem(&foreign, [1; 32], now_ms()), Err(TokenError::OtherRun));

    let good = JoinToken::parse(&JoinToken::mint(&ca, HOUR).unwrap()).unwrap();
    let mut relabelled = JoinToken::parse(&foreign).unwrap();
    relabelled.authority = good.authority;
    let longer = JoinToken { until_s: good.until_s + 1, ..good.clone() };
    let renamed = JoinToken { id: [7; 16], ..good.clone() };
    for forged in [relabelled, longer, renamed] {
        assert_eq!(tokens.redeem(&forged.to_text(), [1; 32], now_ms()), Err(TokenError::Forged));
    }
    for bit in 0..BYTES * 8 {
        let mut bytes = base32_back(&good.to_text()[PREFIX.len()..]).unwrap();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let error = tokens.redeem(&format!("{PREFIX}{}", base32(&bytes)), [1; 32], now_ms()).unwrap_err();
        assert!(matches!(error, TokenError::Forged | TokenError::OtherRun), "bit {bit}: {error}");
    }
    tokens.redeem(&good.to_text(), [1; 32], now_ms()).expect("none of that has spent it");
}

#[test]
fn what_is_no_token_is_refused() {
    let (ca, mut tokens) = run();
    let good = JoinToken::mint(&ca, HOUR).unwrap();
    let long = "a".repeat(100_000);
    let cases =
        ["", "evst1.", "evst2.", "nonsense", "évst1.é", &good[..95], &good[1..], &format!("{good}a"), &good.replace('.', ""), &long];
    for bad in cases {
        assert_eq!(tokens.redeem(bad, [1; 32], now_ms()), Err(TokenError::Garbage), "{bad}");
    }
    let spaced = good.replacen('.', ". ", 1);
    assert_eq!(tokens.redeem(&spaced, [1; 32], now_ms()), Err(TokenError::Garbage));
}

#[test]
fn what_is_remembered_is_bounded_and_nothing_is_forgotten_early() {
    let (ca, mut tokens) = run();
    for n in 0..MAX_SPENT {
        let token =
            JoinToken { id: std::array::from_fn(|at| (n >> (8 * (at % 8))) as u8), until_s: 1000, authority: [0; 16], code: [0; 16] };
        tokens.spent.spend(&token, NodeId([1; 16]), 900).unwrap();
    }
    let token = JoinToken::mint_until(&ca, 2000).unwrap();
    assert_eq!(tokens.redeem(&token, [1; 32], 900_000), Err(TokenError::Busy));
    tokens.redeem(&token, [1; 32], 1_001_000).expect("those are over");
}

#[test]
fn who_is_denied_gets_no_further_certificate() {
    let (ca, in_memory) = run();
    let dir = tempfile::tempdir().unwrap();
    let kept = Tokens::kept_in(ca.clone(), HOUR, dir.path()).unwrap();
    for tokens in [in_memory, kept] {
        let denied = Arc::new(Denied::default());
        let mut tokens = tokens.without(denied.clone());
        let token = JoinToken::mint(&ca, HOUR).unwrap();
        tokens.redeem(&token, [1; 32], now_ms()).unwrap();
        tokens.renew([1; 32], now_ms()).unwrap();
        assert!(denied.add([KeyName::of(Peer::id_of_public_key([1; 32]))]));
        assert!(matches!(tokens.renew([1; 32], now_ms()), Err(TlsError::Denied(_))));
        assert_eq!(tokens.redeem(&token, [1; 32], now_ms()), Err(TokenError::Denied));
        tokens.renew([2; 32], now_ms()).unwrap();
    }
}

#[test]
fn an_answer_for_another_key_or_of_another_authority_is_refused() {
    let (ca, mut tokens) = run();
    let text = JoinToken::mint(&ca, HOUR).unwrap();
    let token = JoinToken::parse(&text).unwrap();
    let pem = tokens.redeem(&text, Applicant::new().unwrap().public_key(), now_ms()).unwrap();
    assert!(matches!(Applicant::new().unwrap().accept(&token, &pem), Err(TlsError::NoCertificate(_))));

    let other = Arc::new(RunCa::generate("demo").unwrap());
    let applicant = Applicant::new().unwrap();
    let theirs = JoinToken::mint(&other, HOUR).unwrap();
    let pem = Tokens::new(other, HOUR).redeem(&theirs, applicant.public_key(), now_ms()).unwrap();
    assert!(matches!(applicant.accept(&token, &pem), Err(TlsError::NoCertificate(_))));
    let garbage = ["", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"];
    garbage.iter().for_each(|pem| assert!(Applicant::new().unwrap().accept(&token, pem).is_err()));
}
