//! Nothing is left of a service whose workers cannot start. Alone in its process, which has few descriptors.

mod common;

use std::convert::Infallible;
use std::env;
use std::future::ready;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::process::Command;
use std::sync::Arc;

use common::{Process, wait_until};
use http_body_util::Empty;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use scratch_server::{Limits, Listener, event_loop, serve};
use settings::Endpoint;

/// Set in the environment of the process that has few descriptors.
const INSIDE: &str = "HAS_FEW_DESCRIPTORS";

#[test]
fn workers_that_have_started_end_where_another_cannot_start() {
    if env::var_os(INSIDE).is_none() {
        let mut command = Command::new("sh");
        command
            .args(["-c", "ulimit -n 64; exec \"$0\""])
            .arg(env::current_exe().expect("this test has a path"))
            .env(INSIDE, "");
        let (code, stdout, stderr) = Process::run(command);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        return;
    }
    let state = Arc::new(());
    let in_service = state.clone();
    let make_service = move |_peer| {
        let _state = in_service.clone();
        service_fn(|_: Request<Incoming>| {
            ready(Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new())))
        })
    };
    let served = event_loop().expect("an event loop").block_on(async {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = Listener::bind(&Endpoint::Ip(address), None).expect("a listener");
        let workers = NonZeroUsize::new(20).expect("20 is not zero");
        serve(
            listener,
            Limits::default(),
            workers,
            make_service,
            ready(()),
        )
        .await
    });
    let error = served.expect_err("64 descriptors are too few");
    // EMFILE.
    assert_eq!(error.raw_os_error(), Some(24), "{error}");
    wait_until("no worker has the service", || {
        Arc::strong_count(&state) == 1
    });
}
