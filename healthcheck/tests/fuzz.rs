//! Random input for everything that parses: no panic, no hang, and the same verdict as a simpler way.
//!
//! Each test makes a fixed number of cases from a fixed seed. One that fails prints its seed:
//! `FUZZ_SEED=... cargo test -p healthcheck --test fuzz` runs with another, and `FUZZ_CASES` sets how
//! many.

mod support;

use std::env;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::str;

use healthcheck::Failure;
use settings::parse_host;
use support::checks::*;

const CASES: u64 = 50_000;

/// Runs `case` with one generator after another. One that panics says which.
fn fuzz(case: impl Fn(&mut Random)) {
    struct Case(u64);
    impl Drop for Case {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("FUZZ_SEED={} FUZZ_CASES=1", self.0);
            }
        }
    }
    let variable = |name| {
        env::var(name)
            .ok()
            .map(|value| value.parse().expect("a number"))
    };
    let first: u64 = variable("FUZZ_SEED").unwrap_or(0);
    for seed in first..first + variable("FUZZ_CASES").unwrap_or(CASES) {
        let _case = Case(seed);
        case(&mut Random(seed));
    }
}

/// SplitMix64: a few lines, and as random as this needs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T: ?Sized>(&mut self, items: &[&'a T]) -> &'a T {
        items[self.below(items.len())]
    }

    /// Deletes, repeats and inserts pieces, here and there; `words` are what is worth inserting.
    fn mutate(&mut self, text: &mut Vec<u8>, words: &[&str]) {
        for _ in 0..self.below(4) {
            let start = self.below(text.len() + 1);
            let end = start + self.below(text.len() - start + 1).min(self.below(8));
            match self.below(4) {
                0 => drop(text.drain(start..end)),
                1 => drop(text.splice(start..start, text[start..end].to_vec())),
                2 => drop(text.splice(start..end, self.pick(words).bytes())),
                _ => drop(text.splice(start..end, [self.next() as u8])),
            }
        }
    }
}

#[test]
fn verdict_does_not_depend_on_how_a_response_is_cut() {
    let seeds = [
        "HTTP/1.1 100 Continue\r\nA: b\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nhealthy",
        "HTTP/1.0 200\n\nunhealthy",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nhea\r\n4\r\nlthy\r\n0\r\n\r\n",
        "HTTP/1.1 503 Busy\r\n\r\n",
    ];
    let words = [
        "\r\n",
        "\n",
        ": ",
        "HTTP/1.1 200",
        "content-length:",
        "chunked",
        "healthy",
        "0",
    ];
    fuzz(|random| {
        let mut bytes = random.pick(&seeds).as_bytes().to_vec();
        random.mutate(&mut bytes, &words);
        let text = (!random.one_in(3)).then_some("healthy");
        let cut = random.below(bytes.len() + 1);
        check_response(&bytes, cut, text);
    });
}

#[test]
fn well_formed_responses_get_the_verdict_that_they_were_made_for() {
    fuzz(|random| {
        let line_end = random.pick(&["\r\n", "\n"]);
        let mut bytes = String::new();
        let line = |bytes: &mut String, line: &str| {
            bytes.push_str(line);
            bytes.push_str(line_end);
        };
        for _ in 0..random.below(3) {
            line(
                &mut bytes,
                random.pick(&["HTTP/1.1 100 Continue", "HTTP/1.0 103", "HTTP/1.1 199 "]),
            );
            for _ in 0..random.below(2) {
                line(&mut bytes, "Content-Length: what");
            }
            line(&mut bytes, "");
        }
        let status = 200 + random.below(400) as u16;
        line(
            &mut bytes,
            &format!(
                "HTTP/1.{} {status}{}",
                random.below(10),
                random.pick(&["", " ", " OK", " \u{e9}\t"])
            ),
        );
        // Short texts over two letters repeat themselves in every way.
        let letters = |random: &mut Random, count| -> String {
            (0..count).map(|_| *random.pick(&[&'a', &'b'])).collect()
        };
        let text_length = 1 + random.below(6);
        let text = letters(random, text_length);
        let body_length = random.below(40);
        let body = letters(random, body_length);
        for _ in 0..random.below(3) {
            line(
                &mut bytes,
                random.pick(&[
                    "Server: x",
                    "Content-Lengths: 3",
                    " transfer-encoding: chunked",
                    ":",
                    "\tx",
                ]),
            );
        }
        match random.below(3) {
            0 => {
                line(
                    &mut bytes,
                    &format!(
                        "{} {}\t",
                        random.pick(&["Content-Length:", "CONTENT-LENGTH: "]),
                        body.len()
                    ),
                );
                line(&mut bytes, "");
                bytes.push_str(&body);
                bytes.push_str("abababab");
            }
            1 => {
                line(
                    &mut bytes,
                    random.pick(&[
                        "transfer-encoding: chunked",
                        "Transfer-Encoding:gzip, Chunked ",
                    ]),
                );
                line(&mut bytes, "");
                let mut rest = body.as_str();
                while !rest.is_empty() {
                    let (chunk, more) = rest.split_at(1 + random.below(rest.len()));
                    line(
                        &mut bytes,
                        &format!("{:x}{}", chunk.len(), random.pick(&["", ";a=b", " ; c"])),
                    );
                    line(&mut bytes, chunk);
                    rest = more;
                }
                line(&mut bytes, random.pick(&["0", "000;x"]));
                bytes.push_str("abababab");
            }
            _ => {
                line(&mut bytes, "");
                bytes.push_str(&body);
            }
        }
        let wanted = 200..=399;
        let asks = random.one_in(2).then_some(text.as_str());
        let expected = match asks {
            _ if !wanted.contains(&status) => Err(Failure::Status(status)),
            Some(_) if matches!(status, 204 | 304) => Err(Failure::TextMissing),
            Some(text) if !body.contains(text) => Err(Failure::TextMissing),
            _ => Ok(status),
        };
        let found = verdict(
            response("200-299,300-399", asks),
            bytes.as_bytes().chunks(1 + random.below(20)),
        );
        assert_eq!(found, expected, "{bytes:?} for {asks:?}");
    });
}

#[test]
fn hosts_are_those_of_core_net() {
    fuzz(|random| {
        let mut text = match random.below(3) {
            0 => Ipv4Addr::from_bits(random.next() as u32)
                .to_string()
                .into_bytes(),
            _ => {
                // Groups of zeros are what `::` stands for.
                let groups: [u16; 8] = std::array::from_fn(|_| {
                    random.next() as u16 & *random.pick(&[&0, &0, &0xf, &0xffff])
                });
                Ipv6Addr::from(groups).to_string().into_bytes()
            }
        };
        random.mutate(&mut text, &[":", "::", "0", ".", "1", "f", "00000"]);
        let Ok(text) = str::from_utf8(&text) else {
            return;
        };
        let ipv4 = text.parse().ok().map(std::net::IpAddr::V4);
        assert_eq!(parse_host(text.as_bytes()), ipv4, "{text}");
        // Not taken: a tail of IPv4.
        let ipv6 = text.parse().ok().filter(|_| !text.contains('.'));
        let bracketed = format!("[{text}]");
        assert_eq!(
            parse_host(bracketed.as_bytes()),
            ipv6.map(std::net::IpAddr::V6),
            "{text}"
        );
    });
}

#[test]
fn targets_are_those_of_a_simpler_way() {
    let seeds = [
        "http://127.0.0.1:8080/health?a=b",
        "http://[::1]/",
        "http://localhost",
        ":8080/ready",
        "localhost:8080",
        "unix:/run/a.sock:/path",
        "unix:/run/a.sock",
        "tcp://[2001:db8::1]:443",
        "https://127.0.0.1/",
    ];
    let words = [
        "://",
        ":/",
        "[",
        "]",
        ":",
        "/",
        "localhost",
        "127.0.0.1",
        "@",
        "#",
        "80",
        "unix:",
    ];
    fuzz(|random| {
        let mut text = random.pick(&seeds).as_bytes().to_vec();
        random.mutate(&mut text, &words);
        check_target(&text);
    });
}

#[test]
fn headers_are_expanded_as_in_a_simpler_way() {
    let seeds = ["${V}", "a ${V:-b} c", "$$", "x", "${W:-}${V}"];
    let words = ["$", "{", "}", ":-", "${V}", "${W:-", "$$", "V"];
    fuzz(|random| {
        let mut text = random.pick(&seeds).as_bytes().to_vec();
        random.mutate(&mut text, &words);
        let mut value = random
            .pick(&["", "value", "${V}", "$$"])
            .as_bytes()
            .to_vec();
        random.mutate(&mut value, &["\r\n", "$", "}"]);
        check_expansion(&text, &value);
    });
}

#[test]
fn arguments_are_taken_or_named() {
    let seeds = [
        "--timeout 5s /health",
        "--timeout=250ms --wait 1m --status 200-299,401",
        "--header Host:a --header=B:c http://localhost:80/",
        "--method HEAD unix:/a",
        "--body=ok --verbose --method GET",
        "tcp://127.0.0.1:1",
        "--header A:${A} ${B:-x}",
        "-h --version",
    ];
    let words = [
        " ",
        "=",
        "--",
        "-",
        ",",
        "0",
        "99999999999",
        "/",
        "ms",
        ":",
        "--body x",
        "${",
        "}",
        "$",
    ];
    fuzz(|random| {
        let mut line = random.pick(&seeds).as_bytes().to_vec();
        random.mutate(&mut line, &words);
        let mut environment = random
            .pick(&["127.0.0.1:80", "[::]:1", ":0", "unix:/a", "", "8080", "5s"])
            .as_bytes()
            .to_vec();
        random.mutate(&mut environment, &words);
        check_options(&line, &environment);
    });
}
