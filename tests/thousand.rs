//! A thousand connections: alone in its process, as both sides come close to the usual limit of 1,024
//! descriptors.

mod common;

use common::{Client, GET, Server};

#[test]
fn a_thousand_kept_connections_do_not_keep_it() {
    let mut server = Server::start(&[]);
    let mut clients: Vec<_> = (0..1_000).map(|_| server.connect()).collect();
    clients
        .iter_mut()
        .for_each(|client| drop(client.request(GET)));
    server.terminate();
    clients.iter_mut().for_each(Client::assert_closed);
    assert_eq!(server.exit().code(), Some(0));
}
