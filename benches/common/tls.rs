//! The peer of a link: TCP with TLS 1.3 and the cipher that QUIC has here, a thread an end, the bytes read to where they stay.

use std::error::Error;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A connection, the reading end first.
struct Pair {
    reader: StreamOwned<ServerConnection, TcpStream>,
    writer: StreamOwned<ClientConnection, TcpStream>,
}

/// Seconds of each round in which `frames` of so many bytes go one after the other over one connection; the first round is left out.
pub(crate) fn one_way(bytes: usize, frames: usize, rounds: usize) -> Result<Vec<f64>> {
    let mut pair = connections::<1>()?;
    let (sent, mut got) = (vec![1u8; bytes], vec![0u8; bytes]);
    in_rounds(rounds, || {
        let [Pair { reader, writer }] = &mut pair;
        std::thread::scope(|scope| {
            let sends = scope.spawn(|| (0..frames).try_for_each(|_| writer.write_all(&sent)).and_then(|()| writer.flush()));
            (0..frames).try_for_each(|_| reader.read_exact(&mut got))?;
            joined([sends])
        })
    })
}

/// Seconds of each round of gather and of reduce of so many values between two nodes that have one half each: a connection each way, a thread for each end. Nodes
/// put their own half beside what comes, or add what comes to it and take the mean.
pub(crate) fn collectives(values: usize, rounds: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    let mut pairs = connections::<2>()?;
    let half = values / 2;
    let (own, mut whole, mut scratch) = (vec![1.0f32; half], vec![vec![0.0f32; values]; 2], vec![vec![0.0f32; half]; 2]);
    let gathers = in_rounds(rounds, || {
        both_ends(&mut pairs, &own, &mut whole, |reader, whole| {
            let (first, second) = whole.split_at_mut(half);
            first.copy_from_slice(&own);
            reader.read_exact(bytemuck::cast_slice_mut(second))
        })
    })?;
    let mut sums: Vec<(Vec<f32>, Vec<f32>)> = whole.into_iter().zip(scratch.drain(..)).collect();
    let reduces = in_rounds(rounds, || {
        both_ends(&mut pairs, &own, &mut sums, |reader, (own, scratch)| {
            reader.read_exact(bytemuck::cast_slice_mut(scratch))?;
            own.iter_mut().zip(scratch).for_each(|(own, other)| *own = (*own + *other) * 0.5);
            Ok(())
        })
    })?;
    Ok((gathers, reduces))
}

/// Each node sends its half and does something with the half that comes.
fn both_ends<T: Send>(
    pairs: &mut [Pair; 2],
    own: &[f32],
    state: &mut [T],
    receive: impl Fn(&mut StreamOwned<ServerConnection, TcpStream>, &mut T) -> std::io::Result<()> + Sync,
) -> std::io::Result<()> {
    std::thread::scope(|scope| {
        let mut ends = Vec::new();
        for (Pair { reader, writer }, state) in pairs.iter_mut().zip(state) {
            let receive = &receive;
            ends.push(scope.spawn(move || writer.write_all(bytemuck::cast_slice(own)).and_then(|()| writer.flush())));
            ends.push(scope.spawn(move || receive(reader, state)));
        }
        joined(ends)
    })
}

fn joined<'a>(threads: impl IntoIterator<Item = std::thread::ScopedJoinHandle<'a, std::io::Result<()>>>) -> std::io::Result<()> {
    threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a thread failed"))))
}

fn in_rounds(rounds: usize, mut work: impl FnMut() -> std::io::Result<()>) -> Result<Vec<f64>> {
    let mut times = Vec::new();
    for _ in 0..=rounds {
        let begun = Instant::now();
        work()?;
        times.push(begun.elapsed().as_secs_f64());
    }
    times.remove(0);
    Ok(times)
}

fn connections<const N: usize>() -> Result<[Pair; N]> {
    let (server, client) = configs()?;
    let pairs = (0..N).map(|_| connect(&server, &client)).collect::<Result<Vec<Pair>>>()?;
    pairs.try_into().map_err(|_| "a connection is missing".into())
}

fn configs() -> Result<(Arc<ServerConfig>, Arc<ClientConfig>)> {
    let provider = rustls::crypto::CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    };
    let provider = Arc::new(provider);
    let made = rcgen::generate_simple_self_signed(["peer".to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone())?;
    let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[&rustls::version::TLS13])?;
    let server = server.with_no_client_auth().with_single_cert(vec![certificate], key)?;
    let client = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13])?;
    Ok((Arc::new(server), Arc::new(client.with_root_certificates(roots).with_no_client_auth())))
}

fn connect(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Result<Pair> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let to = TcpStream::connect(listener.local_addr()?)?;
    let (from, _) = listener.accept()?;
    to.set_nodelay(true)?;
    from.set_nodelay(true)?;
    let reader = StreamOwned::new(ServerConnection::new(server.clone())?, from);
    let writer = StreamOwned::new(ClientConnection::new(client.clone(), ServerName::try_from("peer")?)?, to);
    Ok(Pair { reader, writer })
}
