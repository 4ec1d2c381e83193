//! The end: what is answered, what is cut off, and what is left when `serve` returns.

use std::future::{pending, ready};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use scratch_server::{Drained, Limits};
use tokio::task::{spawn_blocking, spawn_local, yield_now};

use crate::common::{Client, PATIENCE, wait_until};
use crate::harness::{Family, Server, Stream, get, limits, send_frame, text};
use crate::sync::{Count, Gate};

test_with_one_worker_and_four!(
    a_handler_that_waits_is_answered_during_the_drain,
    what_the_kernel_has_accepted_is_answered_above_the_cap,
    a_request_that_comes_after_its_connection_in_the_drain_is_answered,
    a_handler_that_never_answers_is_cut_off_and_counted,
    nothing_of_the_service_is_left_when_serve_returns,
    a_streamed_body_is_finished_during_the_drain,
    a_blocking_task_of_the_service_does_not_hold_the_end,
);

fn a_handler_that_waits_is_answered_during_the_drain(workers: NonZeroUsize) {
    let (running, gate) = (Count::default(), Gate::new());
    let mut server = Server::start(workers, limits(), {
        let (running, gate) = (running.clone(), gate.clone());
        move |_| {
            let (running, gate) = (running.clone(), gate.clone());
            async move {
                let _running = running.guard();
                gate.pass().await;
                text("late")
            }
        }
    });
    let mut clients: Vec<_> = (0..4).map(|_| server.connect()).collect();
    clients.iter_mut().for_each(|client| client.send(get("/")));
    running.wait_for(4);
    let idle = server.connect();
    server.drain(idle);
    gate.admit(4);
    for client in &mut clients {
        let answer = client.response();
        assert_eq!((answer.status, answer.body.as_str()), (200, "late"));
        assert!(answer.closes());
        client.assert_closed();
    }
    assert_eq!(server.drained(), Drained::Complete);
}

fn what_the_kernel_has_accepted_is_answered_above_the_cap(workers: NonZeroUsize) {
    let (running, gate) = (Count::default(), Gate::new());
    let limits = Limits {
        max_connections: NonZeroUsize::MIN,
        ..limits()
    };
    let mut server = Server::start(workers, limits, {
        let (running, gate) = (running.clone(), gate.clone());
        move |request| {
            let (running, gate) = (running.clone(), gate.clone());
            async move {
                if request.uri() == "/busy" {
                    running.add(1);
                    gate.pass().await;
                }
                text("answered")
            }
        }
    });
    let mut busy = server.connect();
    busy.send(get("/busy"));
    running.wait_for(1);
    let mut queued: Vec<_> = (0..8).map(|_| server.connect()).collect();
    queued.iter_mut().for_each(|client| client.send(get("/")));
    server.stop();
    for client in &mut queued {
        let answer = client.response();
        assert_eq!((answer.status, answer.closes()), (200, true));
        client.assert_closed();
    }
    gate.admit(1);
    assert_eq!(busy.response().body, "answered");
    assert_eq!(server.drained(), Drained::Complete);
}

fn a_request_that_comes_after_its_connection_in_the_drain_is_answered(workers: NonZeroUsize) {
    let (running, gate) = (Count::default(), Gate::new());
    let limits = Limits {
        max_connections: NonZeroUsize::MIN,
        ..limits()
    };
    let late = Arc::new(Mutex::new(None::<Client>));
    let make_service = {
        let (running, gate, late) = (running.clone(), gate.clone(), late.clone());
        move |_peer| {
            if let Some(mut client) = late.lock().expect("no panic").take() {
                // At its first look at the socket, the connection finds nothing.
                spawn_local(async move {
                    yield_now().await;
                    client.send(get("/"));
                });
            }
            let (running, gate) = (running.clone(), gate.clone());
            service_fn(move |request: Request<Incoming>| {
                let (running, gate) = (running.clone(), gate.clone());
                async move {
                    if request.uri() == "/busy" {
                        running.add(1);
                        gate.pass().await;
                    }
                    Ok(text("answered"))
                }
            })
        }
    };
    let mut server = Server::start_with(Family::Ipv4, workers, limits, make_service);
    let mut busy = server.connect();
    busy.send(get("/busy"));
    running.wait_for(1);
    // There is no slot for it before the drain.
    let mut client = server.connect();
    *late.lock().expect("no panic") = Some(client.second_handle());
    server.stop();
    let answer = client.response();
    assert_eq!((answer.status, answer.closes()), (200, true));
    gate.admit(1);
    assert_eq!(busy.response().body, "answered");
    assert_eq!(server.drained(), Drained::Complete);
}

fn a_handler_that_never_answers_is_cut_off_and_counted(workers: NonZeroUsize) {
    let running = Count::default();
    let limits = Limits {
        shutdown_timeout: Duration::from_millis(100),
        ..limits()
    };
    let mut server = Server::start(workers, limits, {
        let running = running.clone();
        move |_| {
            running.add(1);
            pending::<Response<Stream>>()
        }
    });
    let mut client = server.connect();
    client.send(get("/"));
    running.wait_for(1);
    let idle = server.connect();
    server.drain(idle);
    assert_eq!(server.drained(), Drained::CutOff(1));
    client.assert_closed();
}

fn nothing_of_the_service_is_left_when_serve_returns(workers: NonZeroUsize) {
    for shutdown_timeout in [Duration::from_millis(100), 2 * PATIENCE] {
        let is_cut_off = shutdown_timeout < PATIENCE;
        let (running, gate, state) = (Count::default(), Gate::new(), Arc::new(()));
        let limits = Limits {
            shutdown_timeout,
            ..limits()
        };
        let mut server = Server::start(workers, limits, {
            let (running, gate, state) = (running.clone(), gate.clone(), state.clone());
            move |_| {
                let (running, gate, state) = (running.clone(), gate.clone(), state.clone());
                async move {
                    let _running = running.guard();
                    gate.pass().await;
                    drop(state);
                    text("late")
                }
            }
        });
        let mut clients: Vec<_> = (0..8).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| client.send(get("/")));
        running.wait_for(8);
        server.stop();
        if is_cut_off {
            assert_eq!(server.drained(), Drained::CutOff(8));
        } else {
            gate.admit(8);
            assert_eq!(server.drained(), Drained::Complete);
        }
        if workers.get() > 1 {
            // On a busy machine, `serve` may give up on a worker as if it blocked its thread.
            running.wait_for(0);
            let deadline = Instant::now() + PATIENCE;
            while Arc::strong_count(&state) > 1 && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
        }
        assert_eq!(running.current(), 0, "cut off: {is_cut_off}");
        assert!(Arc::try_unwrap(state).is_ok(), "cut off: {is_cut_off}");
    }
}

fn a_streamed_body_is_finished_during_the_drain(workers: NonZeroUsize) {
    let (senders, bodies) = channel();
    let mut server = Server::start(workers, limits(), move |_| {
        let (sender, body) = Stream::new(1);
        senders.send(sender).expect("the test waits for it");
        async { Response::new(body) }
    });
    let mut client = server.connect();
    client.send(get("/"));
    let mut sender = bodies.recv_timeout(PATIENCE).expect("a request");
    send_frame(&mut sender, "first");
    client.read_until("5\r\nfirst\r\n");
    let idle = server.connect();
    server.drain(idle);
    send_frame(&mut sender, "second");
    client.read_until("6\r\nsecond\r\n");
    drop(sender);
    assert_eq!(client.read_until("0\r\n\r\n"), "0\r\n\r\n");
    client.assert_closed();
    assert_eq!(server.drained(), Drained::Complete);
}

fn a_blocking_task_of_the_service_does_not_hold_the_end(workers: NonZeroUsize) {
    let (blocked, gate) = (Count::default(), Gate::new());
    let mut server = Server::start(workers, limits(), {
        let (blocked, gate) = (blocked.clone(), gate.clone());
        move |_| {
            let (blocked, gate) = (blocked.guard(), gate.clone());
            spawn_blocking(move || {
                gate.pass_blocking();
                drop(blocked);
            });
            ready(text("at once"))
        }
    });
    for _ in 0..8 {
        assert_eq!(server.get("/").body, "at once");
    }
    server.stop();
    assert_eq!(server.drained(), Drained::Complete);
    assert_eq!(blocked.current(), 8);
    gate.admit(8);
    blocked.wait_for(0);
}

#[test]
fn a_worker_that_blocks_its_thread_is_counted_and_does_not_hold_the_end() {
    let (blocked, running, gate) = (Count::default(), Count::default(), Gate::new());
    let limits = Limits {
        shutdown_timeout: Duration::from_millis(100),
        ..limits()
    };
    let workers = NonZeroUsize::new(4).expect("4 is not zero");
    let mut server = Server::start(workers, limits, {
        let (blocked, running, gate) = (blocked.clone(), running.clone(), gate.clone());
        move |_| {
            // The first worker cannot accept the next connection until another is blocked.
            if thread::current().name() == Some("first worker") {
                running.add(1);
                blocked.wait_for(1);
            } else {
                let _blocked = blocked.guard();
                running.add(1);
                gate.pass_blocking();
            }
            ready(text("late"))
        }
    });
    let mut first = server.connect();
    first.send(get("/"));
    running.wait_for(1);
    let mut second = server.connect();
    if blocked.current() == 0 {
        second.send(get("/"));
        assert_eq!(first.response().status, 200);
    }
    server.stop();
    assert_eq!(server.drained(), Drained::CutOff(1));
    gate.admit(1);
    blocked.wait_for(0);
}

/// Calls a function when it is dropped, with the event loop that it was spawned on.
struct AtEnd<F: Fn()>(F);

impl<F: Fn()> Drop for AtEnd<F> {
    fn drop(&mut self) {
        self.0();
    }
}

/// A server with four workers, one of which calls `at_end` when its event loop ends.
fn start_with_worker(at_end: impl Fn() + Clone + Send + Sync + 'static) -> Server {
    let spawned = Count::default();
    let workers = NonZeroUsize::new(4).expect("4 is not zero");
    let server = Server::start(workers, limits(), {
        let spawned = spawned.clone();
        move |_| {
            // The first worker has the caller's event loop, which does not end here.
            if thread::current().name() != Some("first worker") && spawned.current() == 0 {
                spawned.add(1);
                let at_end = AtEnd(at_end.clone());
                spawn_local(async move {
                    let _at_end = &at_end;
                    pending::<()>().await;
                });
            }
            ready(text("answered"))
        }
    });
    wait_until("another worker than the first serves", || {
        assert_eq!(server.get("/").status, 200);
        spawned.current() > 0
    });
    server
}

#[test]
fn a_worker_that_is_slow_to_end_cuts_nothing_off() {
    let gate = Gate::new();
    let mut server = start_with_worker({
        let gate = gate.clone();
        move || gate.pass_blocking()
    });
    server.stop();
    assert_eq!(server.drained(), Drained::Complete);
    // For each that has spawned at the same time.
    gate.admit(4);
}

#[test]
fn a_worker_that_takes_a_moment_to_end_is_waited_for() {
    let is_waited_for = || {
        let ended = Arc::new(AtomicBool::new(false));
        let mut server = start_with_worker({
            let ended = ended.clone();
            move || {
                thread::sleep(Duration::from_millis(30));
                ended.store(true, SeqCst);
            }
        });
        server.stop();
        assert_eq!(server.drained(), Drained::Complete);
        ended.load(SeqCst)
    };
    // More than once, because after 100 ms a worker that the machine has no time for is given up on.
    assert!((0..10).any(|_| is_waited_for()));
}
