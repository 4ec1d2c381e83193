//! What the routes answer, byte for byte where a client could tell.

mod common;

use common::{Response, Server};

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
    response.assert_date();
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
        for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "BREW", "get"] {
            let response = request(
                &server,
                &format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n"),
            );
            assert_eq!(response.status, 405, "{method} {path}");
            assert_eq!(
                response.header("allow"),
                Some("GET, HEAD, OPTIONS"),
                "{method} {path}"
            );
        }
    }
}

#[test]
fn options_of_the_server_and_of_each_route_has_no_content() {
    let server = Server::start(&[]);
    for path in ["*", "/", "/health", "/readyz", "/livez"] {
        // HAProxy's check is the second of them.
        for head in [
            "HTTP/1.1\r\nHost: test\r\n",
            "HTTP/1.0\r\nConnection: keep-alive\r\n",
        ] {
            let response = request(&server, &format!("OPTIONS {path} {head}\r\n"));
            assert_eq!(response.status, 204, "{path} {head}");
            assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS"));
            let length = response.header("content-length");
            assert_eq!(length, None, "RFC 9110 section 8.6");
        }
    }
    let missing = request(&server, "OPTIONS /missing HTTP/1.0\r\n\r\n");
    assert_eq!(missing.status, 404);
}

#[test]
fn readiness_is_off_while_the_server_stops_whichever_method_asks() {
    let mut server = Server::start(&[("SHUTDOWN_DELAY", "1m")]);
    server.terminate();
    for (path, status, body) in [
        ("/health", 503, "draining"),
        ("/readyz", 503, "draining"),
        ("/livez", 200, "alive"),
        ("/", 200, "Hello from Rust in Docker!\n"),
    ] {
        let response = server.get(path);
        let answer = (response.status, response.body.as_str());
        assert_eq!(answer, (status, body), "{path}");
    }
    // HAProxy's check is an OPTIONS in HTTP/1.0.
    for (head, status) in [
        ("OPTIONS /health HTTP/1.0\r\n\r\n", 503),
        ("OPTIONS /health HTTP/1.1\r\nHost: test\r\n\r\n", 503),
        ("OPTIONS /readyz HTTP/1.0\r\n\r\n", 503),
        ("OPTIONS /livez HTTP/1.0\r\n\r\n", 204),
        ("OPTIONS / HTTP/1.0\r\n\r\n", 204),
        ("POST /health HTTP/1.1\r\nHost: test\r\n\r\n", 405),
        ("POST /readyz HTTP/1.1\r\nHost: test\r\n\r\n", 405),
    ] {
        assert_eq!(request(&server, head).status, status, "{head}");
    }
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
