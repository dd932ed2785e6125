//! Calls: both roles against each other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use coderctl_drpc::{
    Client, CloseReason, Config, Metadata, RpcError, Server, Session,
    proto::{
        agent::{BannerConfig, Log, Startup},
        rpc,
    },
    yamux::frame::{Flags, Kind},
};
use proptest::{
    prelude::any,
    test_runner::{Config as Runs, TestRunner},
};
use tokio::{
    io::duplex,
    task::{JoinHandle, JoinSet},
};

use super::support::{Raw, soon};

fn pair() -> (Client, Server) {
    let (a, b) = duplex(64 * 1024);
    (Client::connect(a), Server::connect(b))
}

fn log(output: impl Into<String>) -> Log {
    Log { output: output.into(), ..Default::default() }
}

/// Answers everything until the client leaves.
fn serve(mut server: Server) -> JoinHandle<CloseReason> {
    tokio::spawn(async move {
        let mut calls = JoinSet::new();
        while let Some(call) = server.accept().await {
            calls.spawn(async move {
                match call.rpc() {
                    "/echo" => call.unary(|log: Log| async { Ok(log) }).await,
                    "/fail" => {
                        call.unary(|_: Log| async { Err::<Log, _>(RpcError::remote(7, "no")) })
                            .await
                    }
                    "/metadata" => {
                        let value = call.metadata().entries.get("key").cloned();
                        call.unary(|_: Log| async { Ok(log(value.unwrap_or_default())) }).await
                    }
                    "/count" => match call.server_stream::<Log, Log>().await {
                        Ok((until, mut sender)) => {
                            for i in 0..until.output.parse::<u32>().unwrap() {
                                sender.send(&log(i.to_string())).await?;
                            }
                            sender.close().await
                        }
                        Err(error) => Err(error),
                    },
                    "/double" => {
                        let (mut receiver, mut sender) = call.stream::<Log, Log>();
                        while let Some(mut log) = receiver.recv().await? {
                            log.output = log.output.repeat(2);
                            sender.send(&log).await?;
                        }
                        sender.close().await
                    }
                    _ => call.unimplemented().await,
                }
            });
        }
        // Calls that the end of the session cut short fail; the client's side is asserted on.
        while calls.join_next().await.is_some() {}
        server.closed().await
    })
}

#[tokio::test]
async fn a_unary_call_is_answered() {
    soon(async {
        let (client, server) = pair();
        let served = serve(server);
        let log: Log = client.unary("/echo", &log("hello")).await.unwrap();
        assert_eq!(log.output, "hello");
        assert_eq!(client.close().await, CloseReason::Local);
        assert_eq!(served.await.unwrap(), CloseReason::Remote);
    })
    .await;
}

#[tokio::test]
async fn errors_keep_their_code() {
    soon(async {
        let (client, server) = pair();
        let _served = serve(server);
        let error = client.unary::<_, Log>("/fail", &log("")).await.unwrap_err();
        assert!(matches!(&error, RpcError::Remote { code: 7, message } if message == "no"));
        assert!(!error.is_unimplemented());
        let error = client.unary::<_, Log>("/nothing", &log("")).await.unwrap_err();
        assert!(error.is_unimplemented(), "{error}");
        assert!(matches!(error, RpcError::Remote { code: 12, .. }));
    })
    .await;
}

#[tokio::test]
async fn metadata_goes_before_the_call() {
    soon(async {
        let (client, server) = pair();
        let _served = serve(server);
        let metadata: Metadata = [("key", "value"), ("other", "")].into_iter().collect();
        let got: Log = client.unary_with("/metadata", &metadata, &log("")).await.unwrap();
        assert_eq!(got.output, "value");
    })
    .await;
}

#[tokio::test]
async fn a_stream_of_responses_ends() {
    soon(async {
        let (client, server) = pair();
        let _served = serve(server);
        let mut logs = client.server_stream::<_, Log>("/count", &log("1000")).await.unwrap();
        for i in 0..1000 {
            assert_eq!(logs.recv().await.unwrap().unwrap().output, i.to_string());
        }
        assert!(logs.recv().await.unwrap().is_none());
        assert!(logs.recv().await.unwrap().is_none());
    })
    .await;
}

#[tokio::test]
async fn streams_go_both_ways() {
    soon(async {
        let (client, server) = pair();
        let _served = serve(server);
        let (mut sender, mut receiver) = client.stream::<Log, Log>("/double").await.unwrap();
        for text in ["a", "b", &"c".repeat(300_000)] {
            sender.send(&log(text)).await.unwrap();
            assert_eq!(receiver.recv().await.unwrap().unwrap().output, text.repeat(2));
        }
        sender.close_send().await.unwrap();
        assert!(receiver.recv().await.unwrap().is_none());
        assert!(matches!(sender.send(&log("late")).await, Err(RpcError::Ended(_))));
        sender.close().await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn the_invoke_of_a_stream_goes_out_at_once() {
    soon(async {
        let (client, mut server) = pair();
        let call = client.stream::<Log, Log>(rpc::tailnet::COORDINATE).await.unwrap();
        assert_eq!(server.accept().await.unwrap().rpc(), rpc::tailnet::COORDINATE);
        drop(call);
    })
    .await;
}

#[tokio::test]
async fn dropping_a_call_drops_its_handler() {
    soon(async {
        let (client, mut server) = pair();
        let begun = tokio::sync::Notify::new();
        let request = Log::default();
        let call = client.unary::<Log, Log>("/slow", &request);
        let serve = async {
            let call = server.accept().await.unwrap();
            let slow = call.unary(|_: Log| {
                begun.notify_one();
                std::future::pending::<Result<Log, RpcError>>()
            });
            slow.await.unwrap_err()
        };
        let call = async {
            tokio::select! {
                answer = call => panic!("{answer:?}"),
                () = begun.notified() => {}
            }
        };
        let (error, ()) = tokio::join!(serve, call);
        assert!(matches!(error, RpcError::Ended(_)), "{error}");
    })
    .await;
}

#[tokio::test]
async fn a_server_hears_that_the_caller_has_left() {
    soon(async {
        let (client, mut server) = pair();
        let question = log("q");
        let (logs, call) =
            tokio::join!(client.server_stream::<_, Log>("/x", &question), server.accept());
        let (request, mut sender) = call.unwrap().server_stream::<Log, Log>().await.unwrap();
        assert_eq!(request.output, "q");
        sender.send(&log("one")).await.unwrap();
        drop(logs.unwrap());
        sender.closed().await;
        assert!(matches!(sender.send(&log("two")).await, Err(RpcError::Ended(_))));
    })
    .await;
}

#[tokio::test]
async fn a_canceled_receive_loses_nothing() {
    soon(async {
        let (client, mut server) = pair();
        let (call, taken) = tokio::join!(client.stream::<Log, Log>("/x"), server.accept());
        let (_keep, mut receiver) = call.unwrap();
        let (_taken, mut sender) = taken.unwrap().stream::<Log, Log>();
        let text = "x".repeat(1_000_000);
        let send = async {
            for _ in 0..3 {
                sender.send(&log(text.clone())).await.unwrap();
            }
            sender.close().await.unwrap();
        };
        let receive = async {
            let mut got = 0;
            loop {
                tokio::select! {
                    biased;
                    next = receiver.recv() => match next.unwrap() {
                        Some(log) => { assert_eq!(log.output, text); got += 1; }
                        None => return got,
                    },
                    () = tokio::task::yield_now() => {}
                }
            }
        };
        assert_eq!(tokio::join!(send, receive).1, 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_canceled_send_is_finished_by_the_next_one() {
    soon(async {
        let (client, mut server) = pair();
        let (call, taken) = tokio::join!(client.stream::<Log, Log>("/x"), server.accept());
        let (mut sender, _keep) = call.unwrap();
        let (mut receiver, _taken) = taken.unwrap().stream::<Log, Log>();
        // Over a window, so it cannot get through while nobody receives.
        let big = log("x".repeat(500_000));
        let cut = tokio::time::timeout(Duration::from_millis(20), sender.send(&big)).await;
        assert!(cut.is_err());
        let next = log("next");
        let (sent, first) = tokio::join!(sender.send(&next), receiver.recv());
        sent.unwrap();
        assert_eq!(first.unwrap().unwrap(), big);
        assert_eq!(receiver.recv().await.unwrap().unwrap(), next);
    })
    .await;
}

#[tokio::test]
async fn an_early_error_interrupts_a_large_request() {
    soon(async {
        let (client, mut server) = pair();
        let request = log("x".repeat(2_000_000));
        let reject = async {
            let call = server.accept().await.unwrap();
            call.reject(RpcError::remote(3, "too much")).await.unwrap();
        };
        let (answer, ()) = tokio::join!(client.unary::<_, Log>("/big", &request), reject);
        assert!(matches!(answer, Err(RpcError::Remote { code: 3, .. })));
    })
    .await;
}

#[tokio::test]
async fn messages_have_a_limit() {
    soon(async {
        let (client, mut server) = pair();
        let size = 4 * 1024 * 1024;
        let big = log("x".repeat(size));
        let error = client.unary::<_, Log>("/x", &big).await.unwrap_err();
        assert!(matches!(error, RpcError::TooLarge { .. }), "{error}");
        // A response too: the caller is told.
        let answer = async {
            let call = server.accept().await.unwrap();
            call.unary(|_: Log| async { Ok(big) }).await.unwrap();
        };
        let empty = log("");
        let (error, ()) = tokio::join!(client.unary::<_, Log>("/x", &empty), answer);
        assert!(matches!(error, Err(RpcError::Remote { code: 0, .. })));
        // Exactly the limit fits: tag, length and text.
        let full = log("x".repeat(size - 5));
        let answer = async { server.accept().await.unwrap().unary(|l: Log| async { Ok(l) }).await };
        let (echo, answered) = tokio::join!(client.unary::<_, Log>("/x", &full), answer);
        answered.unwrap();
        assert_eq!(echo.unwrap(), full);
    })
    .await;
}

#[tokio::test]
async fn a_call_without_an_answer_fails() {
    soon(async {
        let (client, mut server) = pair();
        let request = log("");
        let drop_it = async { drop(server.accept().await) };
        let (answer, ()) = tokio::join!(client.unary::<_, Log>("/x", &request), drop_it);
        assert!(matches!(answer, Err(RpcError::Ended(_))), "{answer:?}");

        // A peer that ends the stream.
        let (a, b) = duplex(64 * 1024);
        let (client, mut peer) = (Client::connect(a), Raw(b));
        let end = async {
            peer.expect(Kind::WindowUpdate, Flags::SYN, 1, 0).await;
            peer.send(Kind::WindowUpdate, Flags::ACK.with(Flags::FIN), 1, 0).await;
        };
        let (answer, ()) = tokio::join!(client.unary::<_, Log>("/x", &request), end);
        assert!(matches!(answer, Err(RpcError::Ended(_))), "{answer:?}");
    })
    .await;
}

#[tokio::test]
async fn a_lost_connection_says_so() {
    soon(async {
        let (client, server) = pair();
        let (mut sender, mut receiver) = client.stream::<Log, Log>("/x").await.unwrap();
        drop(server);
        assert_eq!(client.closed().await, CloseReason::Remote);
        assert!(matches!(receiver.recv().await, Err(RpcError::Closed(CloseReason::Remote))));
        let sent = sender.send(&log("x")).await;
        assert!(matches!(sent, Err(RpcError::Closed(CloseReason::Remote))), "{sent:?}");
        let error = client.unary::<_, Log>("/x", &log("")).await.unwrap_err();
        assert!(matches!(error, RpcError::Closed(CloseReason::Remote)));
    })
    .await;
}

#[tokio::test]
async fn a_message_that_cannot_be_read_is_an_error_on_both_sides() {
    soon(async {
        let (client, mut server) = pair();
        // Field 1 is text here, a number there.
        let banner = BannerConfig { enabled: true, ..Default::default() };
        let call = client.unary::<_, Startup>("/x", &banner);
        let answer = async {
            server.accept().await.unwrap().unary(|s: Startup| async { Ok(s) }).await.unwrap_err()
        };
        let (seen, told) = tokio::join!(call, answer);
        assert!(matches!(told, RpcError::Decode { .. }));
        assert!(matches!(seen, Err(RpcError::Remote { code: 0, .. })));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn calls_at_a_time_are_bounded() {
    soon(async {
        let (a, b) = duplex(64 * 1024);
        let client = Client::connect(a);
        let mut server = Server::with_limit(Session::server(b, Config::default()), 2);
        let calls = async {
            let calls = (0..6).map(|_| client.stream::<Log, Log>("/x"));
            let mut open = Vec::new();
            for call in calls {
                open.push(call.await.unwrap());
            }
            open
        };
        let serve = async {
            let first = server.accept().await.unwrap();
            let _second = server.accept().await.unwrap();
            // A third one has to wait, however long.
            let waits = tokio::time::timeout(Duration::from_millis(20), server.accept()).await;
            assert!(waits.is_err());
            drop(first);
            server.accept().await.unwrap();
        };
        tokio::join!(calls, serve);
    })
    .await;
}

#[tokio::test]
async fn a_stream_that_never_begins_holds_nobody_up() {
    soon(async {
        let (a, b) = duplex(64 * 1024);
        let session = Session::client(a, Config::default());
        let mut silent = session.open().await.unwrap();
        let client = Client::new(session);
        let _served = serve(Server::connect(b));
        assert_eq!(client.unary::<_, Log>("/echo", &log("x")).await.unwrap().output, "x");
        // Nor one that begins with rubbish.
        tokio::io::AsyncWriteExt::write_all(&mut silent, &[0xff; 64]).await.unwrap();
        assert_eq!(client.unary::<_, Log>("/echo", &log("y")).await.unwrap().output, "y");
    })
    .await;
}

#[test]
fn many_calls_at_once_with_random_ends() {
    let one = (0..5u8, 0..40_000usize, any::<bool>());
    let calls = proptest::collection::vec(one, 1..120);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut runner = TestRunner::new(Runs { cases: 24, ..Runs::default() });
    runner
        .run(&calls, |calls| {
            runtime.block_on(soon(storm(calls)));
            Ok(())
        })
        .unwrap();
}

async fn storm(plan: Vec<(u8, usize, bool)>) {
    let (client, server) = pair();
    let client = Arc::new(client);
    let served = serve(server);
    let answered = Arc::new(AtomicUsize::new(0));
    let mut calls = JoinSet::new();
    let expected = plan.len();
    for (what, size, early) in plan {
        let (client, answered) = (client.clone(), answered.clone());
        calls.spawn(async move {
            let text = "x".repeat(size);
            match what {
                0 => {
                    let log: Log = client.unary("/echo", &log(text.clone())).await.unwrap();
                    assert_eq!(log.output, text);
                }
                1 => {
                    let error = client.unary::<_, Log>("/fail", &log(text)).await.unwrap_err();
                    assert!(matches!(error, RpcError::Remote { code: 7, .. }));
                }
                2 => {
                    let count = log((size / 100).to_string());
                    let mut logs = client.server_stream::<_, Log>("/count", &count).await.unwrap();
                    let stop = if early { size / 200 } else { usize::MAX };
                    let mut got = 0;
                    while got < stop && logs.recv().await.unwrap().is_some() {
                        got += 1;
                    }
                    assert_eq!(got, stop.min(size / 100));
                }
                3 => {
                    let (mut sender, mut receiver) =
                        client.stream::<Log, Log>("/double").await.unwrap();
                    sender.send(&log(text.clone())).await.unwrap();
                    if early {
                        sender.close_send().await.unwrap();
                    }
                    assert_eq!(receiver.recv().await.unwrap().unwrap().output.len(), 2 * size);
                    if early {
                        assert!(receiver.recv().await.unwrap().is_none());
                    } else {
                        sender.close().await.unwrap();
                    }
                }
                _ => {
                    let request = log(text);
                    let call = client.unary::<_, Log>("/echo", &request);
                    let _ =
                        tokio::time::timeout(Duration::from_micros(size as u64 / 100), call).await;
                }
            }
            answered.fetch_add(1, Ordering::Relaxed);
        });
    }
    while let Some(call) = calls.join_next().await {
        call.unwrap();
    }
    assert_eq!(answered.load(Ordering::Relaxed), expected);
    assert_eq!(client.close().await, CloseReason::Local);
    assert_eq!(served.await.unwrap(), CloseReason::Remote);
}
