//! What depends on the firewall: the test runs itself once more in a network namespace of its own.
//!
//! Needs root, unshare(1), ip(8) and nft(8): `cargo test -p healthcheck --test namespace -- --ignored`

mod support;

use std::env;
use std::process::Command;

use support::*;

/// Set in the environment of the test that runs in the namespace.
const INSIDE: &str = "INSIDE_A_NAMESPACE";

/// Has packets to `[::1]` vanish, and then runs the test.
const SETUP: &str = r#"
ip link set lo up && nft -f - <<RULES && exec "$0" "$@"
table ip6 probe {
    chain input {
        type filter hook input priority 0
        ip6 daddr ::1 drop
    }
}
RULES
"#;

#[test]
#[ignore = "needs root, for a network namespace"]
fn localhost_leaves_time_for_ipv4_where_the_firewall_drops_ipv6() {
    const NAME: &str = "localhost_leaves_time_for_ipv4_where_the_firewall_drops_ipv6";
    if env::var_os(INSIDE).is_none() {
        let mut command = Command::new("unshare");
        command.args(["--net", "sh", "-c", SETUP]);
        command.arg(env::current_exe().expect("this test has a path"));
        command.args([NAME, "--exact", "--ignored"]).env(INSIDE, "");
        let run = Running::start(&mut command).finish();
        assert!(run.output.contains("1 passed"), "{run:?}");
        return;
    }
    let peer = Peer::saying("HTTP/1.1 200 OK\r\n");
    let port = peer.address.port();
    let six = format!("http://[::1]:{port}/");
    let timeout = format!("--timeout={}ms", TIMEOUT.as_millis());
    probe([&six, &timeout]).assert_unhealthy_after(TIMEOUT, &six, "connect: timed out");
    // Half of the time is for IPv6, and what is left is enough on a machine that is busy.
    let run = probe([
        &format!("http://localhost:{port}/"),
        "--timeout=6s",
        "--verbose",
    ]);
    assert_eq!(run.status.code(), Some(0), "{run:?}");
    let silent = SilentPort::new();
    let url = format!("http://localhost:{}/", silent.number);
    probe([&url, &timeout]).assert_unhealthy_after(TIMEOUT, &url, "connect: timed out");
}
