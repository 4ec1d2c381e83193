//! `${NAME}` in the target and in headers.

mod support;

use support::*;

const FORMS: &str = "${NAME}, ${NAME:-default} or $$";

fn peer() -> Peer {
    Peer::saying("HTTP/1.1 200 OK\r\n")
}

#[test]
fn variables_are_expanded_in_the_target_and_in_headers() {
    let peer = peer();
    let port = peer.address.port().to_string();
    let variables = [
        ("APP_PORT", port.as_str()),
        ("TOKEN", "a:b c"),
        ("_x1", "y"),
    ];
    let arguments = [
        "http://127.0.0.1:${APP_PORT}/ready?${_x1}=${APP_PORT}",
        "--header=Authorization: Bearer ${TOKEN}",
        "--header",
        "X: ${_x1}${_x1}",
    ];
    probe_with(&variables, arguments).assert_healthy();
    let head = peer.head();
    assert!(
        head.starts_with(&format!("GET /ready?y={port} HTTP/1.1\r\n")),
        "{head}"
    );
    let headers = "\r\nAuthorization: Bearer a:b c\r\nX: yy\r\n\r\n";
    assert!(head.ends_with(headers), "{head}");
}

#[test]
fn target_of_the_environment_has_an_expanded_path() {
    let peer = peer();
    let port = peer.address.port().to_string();
    probe_with(&[("PORT", &port), ("NAME", "b")], ["/a/${NAME}"]).assert_healthy();
    assert!(peer.head().starts_with("GET /a/b HTTP/1.1\r\n"));
}

#[test]
fn default_stands_in_for_a_variable_that_is_unset_or_empty() {
    let peer = peer();
    let url = peer.url();
    for (variables, path) in [
        ([("A", "1"), ("B", "2")], "1:2"),
        ([("A", ""), ("B", "")], "x:http://y?$$:{"),
        ([("C", ""), ("D", "")], "x:http://y?$$:{"),
    ] {
        probe_with(
            &variables,
            [&format!("{url}/${{A:-x}}:${{B:-http://y?$$:{{}}")],
        )
        .assert_healthy();
        let head = peer.head();
        assert!(head.starts_with(&format!("GET /{path} ")), "{head}");
    }
    probe([&format!("{url}/a${{A:-}}b")]).assert_healthy();
    assert!(peer.head().starts_with("GET /ab "));
}

#[test]
fn expansion_happens_once_and_two_dollars_are_one() {
    let peer = peer();
    let url = peer.url();
    probe_with(
        &[("A", "${B}$$"), ("B", "b")],
        [&format!("{url}/${{A}}"), "--header=X: $${B} ${A} $$$$"],
    )
    .assert_healthy();
    let head = peer.head();
    assert!(head.starts_with("GET /${B}$$ HTTP"), "{head}");
    assert!(head.contains("\r\nX: ${B} ${B}$$ $$\r\n"), "{head}");
}

#[test]
fn variable_without_a_value_or_a_default_is_named() {
    for (variables, argument) in [
        ([("OTHER", "")], "http://localhost:${APP_PORT}/"),
        ([("APP_PORT", "")], "http://localhost:${APP_PORT}/"),
        ([("APP_PORT_2", "1")], "/${APP_PORT}"),
        ([("APP", "1")], "--header=A: ${APP_PORT}"),
    ] {
        probe_with(&variables, [argument])
            .assert_invalid(r#"APP_PORT="": expected a value, or ${NAME:-default}"#);
    }
    let long = "N".repeat(300);
    let run = probe([&format!("/${{{long}}}")]);
    assert!(
        run.errors.len() < 200 && run.errors.ends_with(":-default}\n"),
        "{run:?}"
    );
}

#[test]
fn dollar_that_begins_no_form_is_refused() {
    for argument in [
        "/$",
        "/${",
        "/${}",
        "/${:-a}",
        "/${A",
        "/${A:-b",
        "http://localhost:$APP_PORT/",
        "/${A:?b}",
        "/${A:}",
        "/$(id)",
    ] {
        probe([argument]).assert_invalid(&format!("\"{argument}\": expected {FORMS}"));
        let header = format!("A: {argument}");
        probe(["--header", &header])
            .assert_invalid(&format!("--header=\"{header}\": expected {FORMS}"));
    }
}

#[test]
fn values_are_checked_like_anything_else() {
    let variables = [("LINES", "a\r\nb"), ("SPACE", "a b")];
    for (argument, line) in [
        (
            "http://localhost:${LINES}/",
            r#""http://localhost:a\x0d\x0ab/": expected a port from 1 to 65535"#,
        ),
        (
            "/${LINES}",
            r#""/a\x0d\x0ab": expected a path of visible ASCII without #, at most 1024 bytes"#,
        ),
        (
            "http://localhost/${SPACE}",
            r#""http://localhost/a b": expected a path of visible ASCII without #, at most 1024 bytes"#,
        ),
        // The expanded value may be secret, so the line shows what was written.
        (
            "--header=A: ${LINES}",
            r#"--header="A: ${LINES}": expected 'Name: value' on one line, 2048 bytes in all"#,
        ),
        (
            "--header=${SPACE}: a",
            r#"--header="${SPACE}: a": expected 'Name: value' on one line, 2048 bytes in all"#,
        ),
    ] {
        probe_with(&variables, [argument]).assert_invalid(line);
    }
}

#[test]
fn values_count_with_their_whole_length() {
    let peer = peer();
    let url = peer.url();
    let value = "v".repeat(1023);
    let variables = [("V", value.as_str())];
    let header = "--header=A: ${V}";
    probe_with(&variables, [&format!("{url}/${{V}}"), header]).assert_healthy();
    let head = peer.head();
    assert!(head.starts_with(&format!("GET /{value} HTTP")));
    assert!(head.ends_with(&format!("\r\nA: {value}\r\n\r\n")));
    for arguments in [
        [format!("{url}/a${{V}}").as_str(), header],
        // More than there is room for.
        ["/${V}${V}${V}${V}", header],
        ["http://${V}${V}${V}${V}:80/", header],
    ] {
        let run = probe_with(&variables, arguments);
        assert_eq!(run.status.code(), Some(1), "{run:?}");
        assert!(run.errors.starts_with("healthcheck: \""), "{run:?}");
    }
    let run = probe_with(&variables, [header, header, &url]);
    assert!(run.errors.contains("2048 bytes in all"), "{run:?}");
    let run = probe_with(&variables, [&format!("{header}${{V}}${{V}}${{V}}"), &url]);
    assert!(run.errors.contains("2048 bytes in all"), "{run:?}");
}
