//! A service is made for each connection, from the address of its client.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroUsize;
use std::sync::mpsc::channel;

use hyper::Request;
use hyper::service::service_fn;
use scratch_server::Peer;

use crate::harness::{Family, Server, get, limits, text};

test_with_one_worker_and_four!(
    a_service_is_made_once_a_connection_and_from_its_peer,
    an_ipv4_client_of_the_dual_stack_socket_is_ipv4,
);

/// Serves with the peer as the answer, and says when a service is made.
fn start(family: Family, workers: NonZeroUsize) -> (Server, impl Fn() -> Vec<Peer>) {
    let (peers, made) = channel();
    let make_service = move |peer| {
        peers.send(peer).expect("the test looks at it");
        service_fn(move |_: Request<_>| async move { Ok(text(format!("{peer:?}"))) })
    };
    let server = Server::start_with(family, workers, limits(), make_service);
    (server, move || made.try_iter().collect())
}

fn a_service_is_made_once_a_connection_and_from_its_peer(workers: NonZeroUsize) {
    for family in Family::BOTH {
        let (server, made) = start(family, workers);
        for _ in 0..3 {
            let mut client = server.connect();
            let peer = match family {
                Family::Unix => Peer::Unix,
                _ => Peer::Tcp(client.0.local_addr().expect("an address")),
            };
            for _ in 0..3 {
                assert_eq!(client.request(&get("/")).body, format!("{peer:?}"));
            }
            assert_eq!(made(), [peer]);
        }
    }
}

fn an_ipv4_client_of_the_dual_stack_socket_is_ipv4(workers: NonZeroUsize) {
    let (server, made) = start(Family::DualStack, workers);
    let mut client = server.connect();
    assert_eq!(client.request(&get("/")).status, 200);
    let address = client.0.local_addr().expect("an address");
    assert_eq!(address.ip(), IpAddr::V4(Ipv4Addr::LOCALHOST));
    assert_eq!(made(), [Peer::Tcp(address)]);
}
