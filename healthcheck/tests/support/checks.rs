//! What holds for any input of the probe's parsers: for random input in `cargo test`, and for that of
//! libFuzzer in `fuzz/`.

use std::net::{Ipv4Addr, Ipv6Addr};

use healthcheck::options::{Action, Options, ROOM, Statuses};
use healthcheck::response::{Response, Verdict};
use healthcheck::target::{LOCALHOST, Target};
use settings::parse_host;

/// A response that is healthy if `statuses`, as `--status` has them, contain its status and its body has
/// `text` in it.
pub fn response<'a>(statuses: &'a str, text: Option<&'a str>) -> Response<'a> {
    let statuses = Statuses::parse(statuses.as_bytes()).expect("they are valid");
    Response::new(statuses, text.map(str::as_bytes))
}

/// The verdict on `pieces`, after which the peer closes.
pub fn verdict<'a>(
    mut response: Response<'_>,
    pieces: impl IntoIterator<Item = &'a [u8]>,
) -> Verdict {
    let decided = pieces.into_iter().find_map(|piece| response.push(piece));
    decided.unwrap_or_else(|| Err(response.close()))
}

/// The verdict does not depend on how a response is cut.
pub fn check_response(bytes: &[u8], cut: usize, text: Option<&str>) {
    let response = || response("200-299", text);
    let whole = verdict(response(), [bytes]);
    assert_eq!(whole, verdict(response(), bytes.chunks(1)));
    let (head, tail) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(whole, verdict(response(), [head, tail]));
    if let Ok(status) = whole {
        assert!((200..300).contains(&status), "{status}");
        assert!(text.is_none_or(|text| contains(bytes, text.as_bytes()) || is_chunked(bytes)));
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

fn is_chunked(bytes: &[u8]) -> bool {
    contains(&bytes.to_ascii_lowercase(), b"chunked")
}

/// Targets are those that a simpler way of reading takes, and what they consist of fits together.
pub fn check_target(text: &[u8]) {
    let shown = text.escape_ascii();
    let target = Target::parse(text);
    assert_eq!(target.is_ok(), is_target(text), "{shown}: {target:?}");
    if let Ok(target) = target {
        let is_ip = target.host == LOCALHOST || parse_host(target.host).is_some();
        assert_eq!(target.port.is_some(), is_ip, "{shown}");
        let is_unix = target.host.starts_with(b"/");
        assert_eq!(target.port.is_none(), is_unix, "{shown}");
        let is_tcp = text.starts_with(b"tcp://");
        assert_eq!(target.path.is_empty(), is_tcp, "{shown}");
        assert!(is_tcp || target.path.starts_with(b"/"), "{shown}");
    }
}

/// Whether it is a target, by the standard library's functions for text and addresses.
fn is_target(text: &[u8]) -> bool {
    if let Some(rest) = text.strip_prefix(b"unix:") {
        let end = rest.windows(2).position(|pair| pair == b":/");
        let (socket, path) = end.map_or((rest, "/".as_bytes()), |end| {
            (&rest[..end], &rest[end + 1..])
        });
        return socket.starts_with(b"/") && socket.len() <= 107 && is_path(path);
    }
    let Ok(text) = str::from_utf8(text) else {
        return false;
    };
    if let Some(authority) = text.strip_prefix("tcp://") {
        return is_authority(authority, false);
    }
    let http = text.strip_prefix("http://");
    let rest = http.unwrap_or(text);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    is_authority(authority, http.is_some()) && (path.is_empty() || is_path(path.as_bytes()))
}

fn is_path(path: &[u8]) -> bool {
    let is_valid = |byte: &u8| (b'!'..=b'~').contains(byte) && *byte != b'#';
    path.len() <= 1024 && path.iter().all(is_valid)
}

fn is_authority(authority: &str, has_default_port: bool) -> bool {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    };
    let ipv6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match (host, port) {
        ("localhost", _) | ("", Some(_)) => true,
        _ => match ipv6 {
            // Not taken: a tail of IPv4.
            Some(host) => host.parse::<Ipv6Addr>().is_ok() && !host.contains('.'),
            None => host.parse::<Ipv4Addr>().is_ok(),
        },
    };
    let is_port = match port {
        // `parse` takes a sign.
        Some(port) => !port.starts_with('+') && port.parse::<u16>().is_ok_and(|port| port > 0),
        None => has_default_port,
    };
    is_host && is_port
}

/// A header has what [`expanded`] makes of it, or is refused.
pub fn check_expansion(text: &[u8], value: &[u8]) {
    let argument = [b"--header=A:", text].concat();
    let variable = |name: &[u8]| (name == b"V").then_some(value);
    let mut options = Options::default();
    let mut room = [0; ROOM];
    let read = options.read([argument.as_slice()].into_iter(), variable, &mut room);
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let expected = expanded(text, |name| variable(name).unwrap_or_default().to_vec())
        .map(|value| [b"A:", value.as_slice(), b"\r\n"].concat())
        .filter(|line| line.len() <= 2048 && line[..line.len() - 2].iter().all(is_text));
    let shown = text.escape_ascii();
    assert_eq!(read.is_ok(), expected.is_some(), "{shown}: {read:?}");
    if let Some(expected) = expected {
        assert_eq!(options.headers, expected, "{shown}");
    }
}

/// What an argument expands to, by recursion on what follows the first dollar, and not by a loop as in the probe.
fn expanded(text: &[u8], variable: impl Fn(&[u8]) -> Vec<u8> + Copy) -> Option<Vec<u8>> {
    let Some(dollar) = text.iter().position(|byte| *byte == b'$') else {
        return Some(text.to_vec());
    };
    let (before, after) = (&text[..dollar], &text[dollar + 1..]);
    let (value, rest) = match after.first()? {
        b'$' => (vec![b'$'], &after[1..]),
        b'{' => {
            let end = after.iter().position(|byte| *byte == b'}')?;
            let inside = &after[1..end];
            let colon = inside.iter().position(|byte| *byte == b':');
            let (name, default) = inside.split_at(colon.unwrap_or(inside.len()));
            let value = match (variable(name), default) {
                _ if name.is_empty() => return None,
                (_, [b':', other, ..]) if *other != b'-' => return None,
                (_, [b':']) => return None,
                (value, _) if !value.is_empty() => value,
                (_, [_, _, default @ ..]) => default.to_vec(),
                _ => return None,
            };
            (value, &after[end + 1..])
        }
        _ => return None,
    };
    Some([before, &value, &expanded(rest, variable)?].concat())
}

/// Arguments, which spaces separate, are taken, or what is wrong is named. Every variable has the value
/// `environment`.
pub fn check_options(line: &[u8], environment: &[u8]) {
    let shown = format!(
        "{} with {}",
        line.escape_ascii(),
        environment.escape_ascii()
    );
    let mut options = Options::default();
    let arguments = || line.split(|byte| *byte == b' ');
    let mut room = [0; ROOM];
    let read = options.read(arguments(), |_| Some(environment), &mut room);
    match read {
        Ok(()) if options.action == Action::Probe => {
            assert!((1..=86_400_000).contains(&options.timeout), "{shown}");
            assert!(options.wait <= 86_400_000, "{shown}");
            assert!(!options.target.host.is_empty(), "{shown}");
            let path = options.target.path;
            assert!(path.is_empty() || path.starts_with(b"/"), "{shown}");
            let has_text = options.text.is_some_and(|text| !text.is_empty());
            assert_eq!(options.text.is_some(), has_text, "{shown}");
            assert!(!(has_text && (options.head || path.is_empty())), "{shown}");
            let wanted = (0..1000).filter(|status| options.statuses.contains(*status));
            assert!(wanted.min().is_some_and(|first| first >= 100), "{shown}");
            let headers = options.headers;
            assert!(headers.is_empty() || headers.ends_with(b"\r\n"), "{shown}");
        }
        Ok(()) => {
            let asked = |argument: &[u8]| matches!(argument, b"-h" | b"--help" | b"--version");
            assert!(arguments().any(asked), "{shown}");
        }
        Err(rule) => {
            let (name, value) = (options.subject.name, options.subject.value);
            let is_argument = |text: &[u8]| arguments().any(|argument| argument == text);
            let is_expanded = || {
                arguments()
                    .filter_map(|argument| expanded(argument, |_| environment.to_vec()))
                    // One that is longer than any valid target is cut off, and refused.
                    .any(|text| text == value || value.len() > 1024 && text.starts_with(value))
            };
            let variables: [&[u8]; 3] = [b"LISTEN", b"PORT", b"HEALTHCHECK_TIMEOUT"];
            let named = match (name, value) {
                (b"", b"/health") => true,
                (b"", _) => is_argument(value) || is_expanded(),
                // A variable with no value, or an option without one.
                (_, b"") => {
                    contains(line, &[b"${", name].concat())
                        || is_argument(name)
                        || is_argument(&[name, b"="].concat())
                }
                _ if variables.contains(&name) => value == environment,
                _ => {
                    is_argument(&[name, b"=", value].concat())
                        || (is_argument(name) && is_argument(value))
                }
            };
            let subject = options.subject;
            assert!(named, "{shown}: {subject:?}: {rule}");
        }
    }
}
