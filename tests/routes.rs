//! What the routes answer, byte for byte where a client could tell.

mod common;

use common::{Client, Response, Server};

fn request(server: &Server, request: &str) -> Response {
    server.connect().request(request)
}

#[test]
fn index_greets_in_plain_text() {
    let server = Server::start(&[]);
    let response = server.get("/");
    assert_eq!(response.status, 200);
    assert_eq!(
        response.header("content-type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(response.header("content-length"), Some("27"));
    assert_eq!(response.body, "Hello from Rust in Docker!\n");
    assert!(
        response
            .header("date")
            .is_some_and(|date| date.ends_with(" GMT"))
    );
    assert_eq!(response.header("cache-control"), None);
}

#[test]
fn health_routes_are_never_cached() {
    let server = Server::start(&[]);
    for (path, body) in [
        ("/health", "healthy"),
        ("/readyz", "healthy"),
        ("/livez", "alive"),
    ] {
        let response = server.get(path);
        assert_eq!(
            (response.status, response.body.as_str()),
            (200, body),
            "{path}"
        );
        assert_eq!(response.header("cache-control"), Some("no-store"), "{path}");
    }
}

#[test]
fn head_has_the_length_of_get_and_no_body() {
    let server = Server::start(&[]);
    for path in ["/", "/health", "/readyz", "/livez", "/missing"] {
        let get = server.get(path);
        let mut client = server.connect();
        let head = client.request(&format!("HEAD {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(
            head.header("content-length"),
            get.header("content-length"),
            "{path}"
        );
        // A body would stand before the next response.
        let next = client.request("GET /livez HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!((next.status, next.body.as_str()), (200, "alive"), "{path}");
    }
}

#[test]
fn other_methods_are_refused_with_those_allowed() {
    let server = Server::start(&[]);
    for path in ["/", "/health", "/readyz", "/livez"] {
        for method in [
            "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "get",
        ] {
            let response = request(
                &server,
                &format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n"),
            );
            assert_eq!(response.status, 405, "{method} {path}");
            assert_eq!(
                response.header("allow"),
                Some("GET, HEAD"),
                "{method} {path}"
            );
        }
    }
}

#[test]
fn options_of_the_whole_server_has_no_content() {
    let server = Server::start(&[]);
    let response = request(&server, "OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(response.status, 204);
    assert_eq!(response.header("allow"), Some("GET, HEAD"));
    assert_eq!(
        response.header("content-length"),
        None,
        "RFC 9110 section 8.6"
    );
}

#[test]
fn everything_else_is_not_found() {
    let server = Server::start(&[]);
    for target in [
        "/missing",
        "/health/",
        "//",
        "/Health",
        "/%68ealth",
        "/healthz",
        "/health;a",
        "/../health",
        "/.",
        "*",
    ] {
        assert_eq!(server.get(target).status, 404, "{target}");
    }
}

#[test]
fn a_query_does_not_change_the_route() {
    let server = Server::start(&[]);
    for target in ["/?", "/?a=b", "/health?verbose", "/livez?/missing"] {
        assert_eq!(server.get(target).status, 200, "{target}");
    }
}

#[test]
fn an_absolute_target_is_routed_by_its_path() {
    let server = Server::start(&[]);
    for (target, status) in [
        ("http://test/health", 200),
        ("http://test", 200),
        ("http://test/missing", 404),
    ] {
        assert_eq!(server.get(target).status, status, "{target}");
    }
}

#[test]
fn connect_is_not_found() {
    let server = Server::start(&[]);
    let response = request(
        &server,
        "CONNECT test:443 HTTP/1.1\r\nHost: test:443\r\n\r\n",
    );
    assert_eq!(response.status, 404);
}

#[test]
fn one_valid_host_is_required() {
    let server = Server::start(&[]);
    for (hosts, status) in [
        ("Host: test\r\n", 200),
        ("Host: [::1]:8080\r\n", 200),
        ("Host:\r\n", 200),
        ("", 400),
        ("Host: a\r\nHost: b\r\n", 400),
        ("Host: a\r\nhost: a\r\n", 400),
        ("Host: a b\r\n", 400),
        ("Host: a/b\r\n", 400),
        ("Host: a@b\r\n", 400),
        ("Host: a, b\r\n", 400),
    ] {
        let response = request(&server, &format!("GET / HTTP/1.1\r\n{hosts}\r\n"));
        assert_eq!(response.status, status, "{hosts:?}");
        assert_eq!(response.closes(), status == 400, "{hosts:?}");
    }
}

#[test]
fn http_1_0_needs_no_host_and_is_closed_after_the_answer() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let response = client.request("GET / HTTP/1.0\r\n\r\n");
    assert_eq!((response.status, &response.head[..8]), (200, "HTTP/1.0"));
    assert_eq!(response.body, "Hello from Rust in Docker!\n");
    client.assert_closed();
    assert_eq!(
        request(&server, "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n").status,
        400
    );
}

#[test]
fn http_1_0_is_kept_alive_when_it_asks() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for _ in 0..2 {
        let response = client.request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
}

#[test]
fn a_connection_carries_many_requests_until_one_says_close() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    for _ in 0..3 {
        assert!(
            !client
                .request("GET / HTTP/1.1\r\nHost: test\r\n\r\n")
                .closes()
        );
    }
    let last = client.request("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    assert!(last.closes());
    client.assert_closed();
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = Server::start(&[]);
    let mut client = server.connect();
    let get = |path| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    client.send([get("/"), get("/health"), get("/missing"), get("/livez")].concat());
    let mut status_and_length = || {
        let response = client.response();
        (response.status, response.body.len())
    };
    assert_eq!(status_and_length(), (200, 27));
    assert_eq!(status_and_length(), (200, 7));
    assert_eq!(status_and_length(), (404, 10));
    assert_eq!(status_and_length(), (200, 5));
}

#[test]
fn every_loopback_address_reaches_the_default_endpoint() {
    let mut command = Server::command();
    command.env("PORT", "0");
    let server = Server::spawn(command);
    let port = server.address.port();
    for address in ["127.0.0.1", "::1"] {
        let address = std::net::SocketAddr::new(address.parse().unwrap(), port);
        // A kernel without IPv6 has no ::1 to connect to.
        if std::net::TcpListener::bind((address.ip(), 0)).is_ok() {
            let mut client = Client::connect(address);
            let response = client.request("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(response.status, 200, "{address}");
        }
    }
}
