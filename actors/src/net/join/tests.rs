//! The exchange over real sockets: nodes that get in, and guests that do not.

use super::*;
use crate::net::endpoint::{Endpoint, Options};
use crate::net::tls::RunCa;

const HOUR: Duration = Duration::from_secs(3600);

struct Open {
    given: tokio::sync::mpsc::UnboundedReceiver<Given>,
    address: SocketAddr,
    ca: Arc<RunCa>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn open() -> Open {
    let ca = Arc::new(RunCa::generate("demo").unwrap());
    let desk = JoinDesk::bind((Ipv4Addr::LOCALHOST, 0).into(), Tokens::new(ca.clone(), HOUR)).unwrap();
    let address = desk.local_addr().unwrap();
    let (tell, given) = tokio::sync::mpsc::unbounded_channel();
    let task = tokio::spawn(async move { desk.serve(move |what| tell.send(what).unwrap_or_default()).await });
    Open { given, address, ca, task }
}

struct Deaf;

impl crate::net::Router for Deaf {
    type Control = String;
    fn control(&self, _: NodeId, _: String) {}
    fn admit(&self, _: NodeId, _: &crate::wire::message::DataHeader) -> Result<(), crate::net::Reject> {
        Err(crate::net::Reject("nothing is wanted".into()))
    }
    fn data(&self, _: NodeId, _: crate::wire::message::DataHeader, _: Vec<f32>) {}
    fn down(&self, _: NodeId, _: crate::net::link::LinkDown) {}
}

fn node(identity: Identity) -> Endpoint<Deaf> {
    Endpoint::bind((Ipv4Addr::LOCALHOST, 0).into(), identity, Options::default(), Arc::new(Deaf), None).unwrap()
}

#[tokio::test]
async fn a_token_makes_a_member_and_a_member_is_renewed() {
    let mut desk = open();
    let token = JoinToken::mint(&desk.ca, HOUR).unwrap();
    let identity = join(desk.address, &format!(" {token}\n")).await.unwrap();
    let (joined, member) = (node(identity), node(Identity::issue(&desk.ca, Role::Node, HOUR).unwrap()));
    let (link, _) = tokio::join!(joined.connect(member.local_addr().unwrap(), Some(member.id())), member.accept());
    assert_eq!(link.unwrap().peer(), member.id());

    let short = Identity::issue(&desk.ca, Role::Node, HOUR / 2).unwrap();
    let next = renew(desk.address, &short).await.unwrap();
    assert_eq!(next.peer(), short.peer());
    assert!(next.until_ms() > short.until_ms());

    assert_eq!(desk.given.recv().await, Some(Given::Joined(joined.id())));
    assert_eq!(desk.given.recv().await, Some(Given::Renewed(short.id())), "each certificate is told");

    let again = join(desk.address, &token).await.unwrap_err();
    assert!(matches!(&again, JoinError::Refused { reason, .. } if reason.contains("used by another node")), "{again}");
}

#[tokio::test]
async fn a_guest_never_gives_its_token_to_a_desk_of_another_run_or_to_a_node() {
    let (desk, other) = (open(), open());
    let token = JoinToken::mint(&desk.ca, HOUR).unwrap();
    let member = node(Identity::issue(&desk.ca, Role::Node, HOUR).unwrap());
    for address in [other.address, member.local_addr().unwrap()] {
        let error = join(address, &token).await.unwrap_err();
        assert!(matches!(error, JoinError::Unreachable { .. }), "{error}");
    }
    join(desk.address, &token).await.expect("neither has seen it");
}

/// The TLS of a node that speaks the desk's protocol with its own certificate: what a member that was taken over could do.
#[tokio::test]
async fn a_members_certificate_is_not_that_of_a_desk() {
    let ca = RunCa::generate("demo").unwrap();
    let token = JoinToken::parse(&JoinToken::mint(&ca, HOUR).unwrap()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ca.certificate().clone()).unwrap();
    let (_, mut chain, key) = Identity::issue(&ca, Role::Node, HOUR).unwrap().for_client();
    chain.push(ca.certificate().clone());
    let config = rustls::ServerConfig::builder_with_provider(crate::net::tls::identity::provider());
    let config = config.with_protocol_versions(&[&rustls::version::TLS13]).unwrap().with_no_client_auth();
    let mut config = config.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![tls::ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicServerConfig::try_from(config).unwrap();
    let server = quinn::Endpoint::server(quinn::ServerConfig::with_crypto(Arc::new(crypto)), (Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let address = server.local_addr().unwrap();
    let posing = tokio::spawn(async move { server.accept().await.unwrap().await.map(drop) });
    let client = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let error = client.connect_with(tls::guest(&token).unwrap(), address, tls::DESK_NAME).unwrap().await.unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(posing.await.unwrap().is_err());
}

#[tokio::test]
async fn only_a_node_gets_its_own_certificate_renewed() {
    let desk = open();
    let viewer = Identity::issue(&desk.ca, Role::Viewer, HOUR).unwrap();
    let error = renew(desk.address, &viewer).await.unwrap_err().to_string();
    assert!(error.contains("cannot be renewed"), "{error}");

    let (a, b) = (Identity::issue(&desk.ca, Role::Node, HOUR).unwrap(), Identity::issue(&desk.ca, Role::Node, HOUR).unwrap());
    let error = ask(desk.address, tls::member(&a).unwrap(), &b.public_key(), "").await.unwrap_err().to_string();
    assert!(error.contains("cannot be renewed"), "{error}");
    let error = ask(desk.address, tls::guest(&JoinToken::parse(&JoinToken::mint(&desk.ca, HOUR).unwrap()).unwrap()).unwrap(), &[1; 32], "");
    assert!(error.await.unwrap_err().to_string().contains("no join token"), "without a certificate there is nothing to renew");

    let day = Duration::from_secs(86_400);
    let old = Identity::issue_between(&desk.ca, Role::Node, 100 * day, 200 * day).unwrap();
    let error = renew(desk.address, &old).await.unwrap_err();
    assert!(matches!(error, JoinError::Unreachable { .. }), "what has expired opens no door: {error}");
}

#[tokio::test]
async fn guests_that_say_too_much_or_nothing_go_and_others_are_served() {
    let desk = open();
    let token = JoinToken::mint(&desk.ca, HOUR).unwrap();
    let parsed = JoinToken::parse(&token).unwrap();
    let long = "a".repeat(2 * LONGEST);
    assert!(ask(desk.address, tls::guest(&parsed).unwrap(), &[1; 32], &long).await.is_err());

    let mut silent = Vec::new();
    for _ in 0..GUESTS - 1 {
        let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let connecting = endpoint.connect_with(tls::guest(&parsed).unwrap(), desk.address, tls::DESK_NAME).unwrap();
        let connection = connecting.await.unwrap();
        silent.push((endpoint, connection));
    }
    join(desk.address, &token).await.unwrap();
    for (_, connection) in &silent {
        timeout(3 * PATIENCE, connection.closed()).await.expect("patience is bounded");
    }
}
