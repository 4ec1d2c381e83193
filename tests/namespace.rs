//! What depends on settings of the whole machine: each test runs itself once more in a namespace of its
//! own, where it may change them.
//!
//! Needs root, unshare(1) and ip(8): `cargo test --test namespace -- --ignored`

mod common;

use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use common::docker::success;
use common::{Client, GET, PATIENCE, Process, Server};

/// Set in the environment of a test that runs in a namespace.
const INSIDE: &str = "INSIDE_A_NAMESPACE";

/// Runs `test`, which is in the test of this thread, in a network namespace with nothing but loopback.
fn in_network_namespace(test: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        let interfaces = fs::read_to_string("/proc/net/dev").expect("the kernel's table");
        let names = interfaces.lines().filter_map(|line| line.split_once(':'));
        assert!(
            names.map(|(name, _)| name.trim()).eq(["lo"]),
            "{interfaces}"
        );
        let mut up = Command::new("ip");
        up.args(["link", "set", "lo", "up"]);
        success(up);
        return test();
    }
    let this = thread::current();
    let mut command = Command::new("unshare");
    command
        .arg("--net")
        .arg(env::current_exe().expect("this test has a path"))
        .args([this.name().expect("the test's"), "--exact", "--ignored"])
        .env(INSIDE, "");
    let (code, stdout, stderr) = Process::run(command);
    // Success alone could also mean that there was no test of this name.
    assert!(
        code == Some(0) && stdout.contains("1 passed"),
        "{stdout}{stderr}"
    );
}

/// Has a socket for `[::]` serve IPv6 alone, unless it says otherwise.
fn set_bindv6only() {
    fs::write("/proc/sys/net/ipv6/bindv6only", "1").expect("root may");
    let plain = TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).expect("a free port");
    let port = plain.local_addr().expect("an address").port();
    let ipv4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    assert!(TcpStream::connect_timeout(&ipv4, PATIENCE).is_err());
}

fn assert_serves(server: &Server, address: impl Into<IpAddr>) {
    let address = SocketAddr::new(address.into(), server.address.port());
    assert_eq!(
        Client::connect(address).request(GET).status,
        200,
        "{address}"
    );
}

#[test]
#[ignore = "needs root, for a network namespace"]
fn every_interface_means_ipv4_too_where_bindv6only_is_set() {
    in_network_namespace(|| {
        set_bindv6only();
        for (variable, value) in [("PORT", "0"), ("LISTEN", ":0"), ("LISTEN", "[::]:0")] {
            let mut command = Server::command();
            command.env(variable, value);
            let server = Server::spawn(command);
            assert_serves(&server, Ipv4Addr::LOCALHOST);
            assert_serves(&server, Ipv6Addr::LOCALHOST);
        }
    });
}

#[test]
#[ignore = "needs root, for a network namespace"]
fn every_interface_means_ipv4_alone_where_ipv6_is_disabled() {
    in_network_namespace(|| {
        fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").expect("root may");
        for (variable, value) in [("PORT", "0"), ("LISTEN", ":0")] {
            let mut command = Server::command();
            command.env(variable, value);
            let server = Server::spawn(command);
            assert_serves(&server, Ipv4Addr::LOCALHOST);
        }
    });
}
