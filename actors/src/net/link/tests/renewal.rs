//! Certificates that end and are renewed while links are up.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::harness::*;
use crate::net::endpoint::{ConnectError, Options};
use crate::net::renewal::keep_renewed;
use crate::net::tls::{Identity, Role, RunCa, TlsError};

const DAY: Duration = Duration::from_secs(86_400);

/// The certificate that a node shows to who dials it now.
async fn shown_by(node: &Node, ca: &RunCa) -> Vec<u8> {
    let identity = Identity::issue(ca, Role::Node, HOUR).unwrap();
    let (_endpoint, connection) = raw_connection(identity.client().unwrap(), node.address()).await;
    let chain = connection.peer_identity().unwrap().downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().unwrap();
    chain[0].to_vec()
}

#[tokio::test]
async fn a_certificate_is_renewed_and_no_link_is_lost() {
    let ca = RunCa::generate("run").unwrap();
    let identity = Identity::issue(&ca, Role::Node, HOUR).unwrap();
    let (a, mut b) = (Node::with(identity.clone(), Options::default()), Node::new(&ca));
    let (ab, ba) = linked(&a, &b, b.address()).await;
    let (before, id) = (shown_by(&a, &ca).await, a.endpoint.id());

    a.endpoint.renew(&identity.renewed(&ca, DAY).unwrap()).unwrap();
    let after = shown_by(&a, &ca).await;
    assert_ne!(before, after, "who dials it sees the new one");
    assert!(a.endpoint.certificate_until_ms() > identity.until_ms());
    assert_eq!(a.endpoint.id(), id);

    ab.control(&"still here".into()).await.unwrap();
    assert_eq!(b.next_control().await, (id, "still here".into()));
    assert_eq!((ab.is_down(), ba.is_down()), (None, None));

    let stranger = Identity::issue(&ca, Role::Node, DAY).unwrap();
    assert!(matches!(a.endpoint.renew(&stranger), Err(TlsError::OtherKey(_))), "another key would be another node");
}

#[tokio::test]
async fn what_has_expired_is_refused_until_it_is_renewed() {
    let ca = RunCa::generate("run").unwrap();
    let old = Identity::issue_between(&ca, Role::Node, 100 * DAY, 200 * DAY).unwrap();
    let (a, b) = (Node::with(old.clone(), Options::default()), Node::new(&ca));
    for (from, to) in [(&a, &b), (&b, &a)] {
        let error = from.endpoint.connect(to.address(), None).await.unwrap_err();
        assert!(matches!(&error, ConnectError::Refused { reason, .. } if reason.contains("has expired")), "{error}");
    }
    a.endpoint.renew(&old.renewed(&ca, DAY).unwrap()).unwrap();
    linked(&a, &b, b.address()).await;
    linked(&b, &a, a.address()).await;
}

#[tokio::test]
async fn renewals_go_on_after_failures_and_end_with_the_endpoint() {
    let ca = Arc::new(RunCa::generate("run").unwrap());
    // Due at once: two thirds of its life are long over.
    let old = Identity::issue_between(&ca, Role::Node, 100 * DAY, 200 * DAY).unwrap();
    let node = Node::with(old.clone(), Options::default());
    let (tell, mut asked) = tokio::sync::mpsc::unbounded_channel();
    let (with, mut first) = (ca.clone(), true);
    let task = tokio::spawn(keep_renewed(Arc::downgrade(&node.endpoint), old.clone(), move |identity| {
        tell.send(identity.until_ms()).unwrap();
        let made = if std::mem::take(&mut first) { Err(TlsError::Make("not now".into())) } else { identity.renewed(&with, Duration::ZERO) };
        std::future::ready(made)
    }));
    let mut ends = Vec::new();
    while ends.len() < 3 {
        ends.push(timeout(SOON, asked.recv()).await.unwrap().unwrap());
    }
    assert_eq!(ends[..2], [old.until_ms(); 2], "asked again after a failure");
    assert!(ends[2] > old.until_ms() && node.endpoint.certificate_until_ms() >= ends[2]);
    drop(node);
    timeout(SOON, task).await.unwrap().unwrap();
}
