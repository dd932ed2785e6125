//! Connections from clients to the agent.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use coderctl_tailnet::shell::TcpStream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::world::{AGENT, Service, World, client_id, soon};

/// The bytes of a stream from one place to another.
fn pattern(from: usize, to: usize) -> Vec<u8> {
    (from..to).map(|at| ((at / 7) ^ (at >> 9)) as u8).collect()
}

/// Sends so many bytes and closes its half.
async fn send(stream: &mut TcpStream, total: usize) {
    for from in (0..total).step_by(50_000) {
        let to = total.min(from + 50_000);
        soon(stream.write_all(&pattern(from, to))).await.unwrap();
    }
    stream.shutdown().await.unwrap();
}

/// Receives until the end, and checks every byte.
async fn receive(stream: &mut TcpStream) -> usize {
    let mut buffer = vec![0; 70_000];
    let mut received = 0;
    loop {
        let count = soon(stream.read(&mut buffer)).await.unwrap();
        if count == 0 {
            return received;
        }
        assert_eq!(buffer[..count], pattern(received, received + count));
        received += count;
    }
}

async fn echo(Service(syn): Service) {
    let mut stream = syn.accept().await.unwrap();
    let (mut reader, mut writer) = tokio::io::split(&mut stream);
    tokio::io::copy(&mut reader, &mut writer).await.unwrap();
    writer.shutdown().await.unwrap();
}

#[tokio::test]
async fn bytes_go_both_ways() {
    let (mut world, _session) = World::with_agent();
    world.serve(echo);
    let client = world.client(1);
    let mut stream = soon(client.handle().connect(AGENT, 22)).await.unwrap();
    let total = 1 << 20;
    let sent = async {
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let send = async {
            writer.write_all(&pattern(0, total)).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut echoed = Vec::new();
        let (_, read) = tokio::join!(send, reader.read_to_end(&mut echoed));
        assert_eq!(read.unwrap(), total);
        echoed
    };
    assert_eq!(soon(sent).await, pattern(0, total));
}

#[tokio::test]
async fn each_half_closes_alone() {
    let (mut world, _session) = World::with_agent();
    // Says nothing before it has heard everything.
    world.serve(|Service(syn)| async move {
        let mut stream = syn.accept().await.unwrap();
        assert_eq!(receive(&mut stream).await, 300_000);
        send(&mut stream, 200_000).await;
    });
    let client = world.client(1);
    let mut stream = soon(client.handle().connect(AGENT, 80)).await.unwrap();
    send(&mut stream, 300_000).await;
    assert_eq!(receive(&mut stream).await, 200_000);
}

#[tokio::test]
async fn a_port_may_refuse() {
    let (mut world, _session) = World::with_agent();
    let client = world.client(1);
    let handle = client.handle();
    let connect = async { handle.connect(AGENT, 8080).await };
    let answer = async {
        let syn = world.syn().await;
        assert_eq!((syn.ends().local.port(), syn.ends().peer), (8080, client_id(1)));
        assert_eq!(*syn.ends().local.ip(), AGENT.agent_address());
        syn.refuse();
    };
    let (refused, ()) = soon(async { tokio::join!(connect, answer) }).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // One that is dropped is refused as well.
    let drop_it = async { drop(world.syn().await) };
    let (refused, ()) = soon(async { tokio::join!(handle.connect(AGENT, 81), drop_it) }).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_client_that_gives_up_is_not_accepted() {
    let (mut world, _session) = World::with_agent();
    let client = world.client(1);
    let handle = client.handle();
    let connecting = tokio::spawn(async move { handle.connect(AGENT, 8080).await });
    let syn = world.syn().await;
    connecting.abort();
    assert!(soon(connecting).await.unwrap_err().is_cancelled());
    // What it says afterwards comes afterwards: its RST is there when the next SYN is.
    world.open(&client, 81).await;
    assert_eq!(soon(syn.accept()).await.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn two_hundred_at_once() {
    let (mut world, _session) = World::with_agent();
    // All of them are open before the first is served.
    let (open, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    world.serve({
        let (open, all) = (open.clone(), all.clone());
        move |Service(syn)| {
            let (open, all) = (open.clone(), all.clone());
            async move {
                let mut stream = syn.accept().await.unwrap();
                if open.fetch_add(1, Ordering::Relaxed) + 1 == 200 {
                    all.add_permits(200);
                }
                let _permit = soon(all.acquire()).await.unwrap();
                let count = receive(&mut stream).await;
                send(&mut stream, count).await;
            }
        }
    });
    let client = world.client(1);
    let mut tasks = JoinSet::new();
    for number in 0..200 {
        let handle = client.handle();
        tasks.spawn(async move {
            let mut stream = soon(handle.connect(AGENT, 1000 + number)).await.unwrap();
            send(&mut stream, 20_000).await;
            assert_eq!(receive(&mut stream).await, 20_000);
        });
    }
    while let Some(done) = soon(tasks.join_next()).await {
        done.unwrap();
    }
    assert_eq!(open.load(Ordering::Relaxed), 200);
}

#[tokio::test]
async fn many_clients_at_once() {
    let (mut world, _session) = World::with_agent();
    world.serve(echo);
    let mut tasks = JoinSet::new();
    for number in 1..=20 {
        let client = world.client(number);
        tasks.spawn(async move {
            let mut stream = soon(client.handle().connect(AGENT, 80)).await.unwrap();
            stream.write_all(&[number; 1000]).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut echoed = Vec::new();
            soon(stream.read_to_end(&mut echoed)).await.unwrap();
            assert_eq!(echoed, [number; 1000]);
            soon(client.close()).await;
        });
    }
    while let Some(done) = soon(tasks.join_next()).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_transfer_survives_the_loss_of_the_control_session() {
    let (mut world, session) = World::with_agent();
    let total = 8 << 20;
    world.serve(move |Service(syn)| async move {
        let mut stream = syn.accept().await.unwrap();
        if syn_is_download(&mut stream).await {
            send(&mut stream, total).await;
        } else {
            assert_eq!(receive(&mut stream).await, total);
            stream.shutdown().await.unwrap();
        }
    });
    let client = world.client(1);
    let mut down = soon(client.handle().connect(AGENT, 80)).await.unwrap();
    down.write_all(b"d").await.unwrap();
    let mut up = soon(client.handle().connect(AGENT, 80)).await.unwrap();
    up.write_all(b"u").await.unwrap();
    let half = pattern(0, total / 2);
    let mut received = vec![0; total / 2];
    soon(down.read_exact(&mut received)).await.unwrap();
    assert_eq!(received, half);
    soon(up.write_all(&half)).await.unwrap();

    // The server goes away without a word.
    world.coordinator.cut(AGENT);
    let ended = session.ended().await;
    assert!(matches!(ended, coderctl_tailnet::control::CoordinationEnd::Failed(_)), "{ended:?}");
    let mut status = world.agent.status();
    soon(status.wait_for(|status| !status.control)).await.unwrap();
    assert!(world.agent.stats().peers.iter().all(|peer| peer.lost));
    // Meanwhile streams go on.
    let quarter = pattern(total / 2, total / 4 * 3);
    let mut received = vec![0; total / 4];
    soon(down.read_exact(&mut received)).await.unwrap();
    assert_eq!(received, quarter);
    soon(up.write_all(&quarter)).await.unwrap();

    let _session = world.session(AGENT);
    soon(status.wait_for(|status| status.control)).await.unwrap();
    let rest = pattern(total / 4 * 3, total);
    let mut received = Vec::new();
    soon(down.read_to_end(&mut received)).await.unwrap();
    assert_eq!(received, rest);
    soon(up.write_all(&rest)).await.unwrap();
    up.shutdown().await.unwrap();
    assert_eq!(soon(up.read(&mut [0; 1])).await.unwrap(), 0);
    // It was one tunnel all the time, and a new stream uses it.
    assert_eq!(client.handle().tunnel_stats().handshakes_completed, 1);
    soon(client.handle().connect(AGENT, 81)).await.unwrap();
}

async fn syn_is_download(stream: &mut TcpStream) -> bool {
    let mut kind = [0];
    soon(stream.read_exact(&mut kind)).await.unwrap();
    kind == *b"d"
}

#[tokio::test]
async fn a_transfer_survives_the_loss_of_the_relay() {
    let (mut world, _session) = World::with_agent();
    let total = 2 << 20;
    world.serve(move |Service(syn)| async move {
        send(&mut syn.accept().await.unwrap(), total).await;
    });
    let client = world.client(1);
    let mut stream = soon(client.handle().connect(AGENT, 80)).await.unwrap();
    let mut received = vec![0; total / 2];
    soon(stream.read_exact(&mut received)).await.unwrap();
    world.relay.drop_all();
    let mut rest = Vec::new();
    soon(stream.read_to_end(&mut rest)).await.unwrap();
    received.extend(rest);
    assert_eq!(received, pattern(0, total));
}

#[tokio::test]
async fn a_client_that_comes_back_with_a_new_key_is_a_new_one() {
    let (mut world, _session) = World::with_agent();
    let first = world.client(1);
    let (_theirs, mut ours) = world.open(&first, 80).await;
    // It is killed, and its successor gets the same name.
    drop(first);
    let second = world.client(1);
    world.open(&second, 81).await;
    // The old one's connections are over.
    let error = soon(ours.read(&mut [0; 1])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
    assert_eq!(world.agent.stats().peers.len(), 1);
}
