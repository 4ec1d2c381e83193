//! Numbers, durations and hosts, out of bytes.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::time::Duration;

/// The longest duration that can be written: 24 hours.
pub const MAX_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// An IPv4 address, or an IPv6 address in brackets. The result is that of `core::net`, in a quarter of
/// its code; only an IPv6 address that ends with an IPv4 one (`[::ffff:1.2.3.4]`) is not read.
pub fn parse_host(host: &[u8]) -> Option<IpAddr> {
    match host.strip_prefix(b"[") {
        Some(host) => parse_ipv6(host.strip_suffix(b"]")?).map(IpAddr::V6),
        None => parse_ipv4(host).map(IpAddr::V4),
    }
}

fn parse_ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut bits = 0;
    let mut count = 0;
    for part in split(text, b'.') {
        // To some programs a leading zero means octal.
        if part.len() > 1 && part.starts_with(b"0") {
            return None;
        }
        bits = bits << 8 | parse_number(part, 255)?;
        count += 1;
    }
    (count == 4).then_some(Ipv4Addr::from_bits(bits))
}

/// RFC 4291 section 2.2, but for the form that ends with an IPv4 address.
fn parse_ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    let (mut head, mut tail) = (0, 0);
    let fits = match text.windows(2).position(|pair| pair == b"::") {
        None => push_groups(&mut tail, text)? == 8,
        Some(gap) => {
            let head_count = push_groups(&mut head, text.get(..gap)?)?;
            let tail_count = push_groups(&mut tail, text.get(gap + 2..)?)?;
            for _ in head_count..8 {
                head <<= 16;
            }
            head_count + tail_count < 8
        }
    };
    fits.then_some(Ipv6Addr::from_bits(head | tail))
}

/// Appends the groups of 16 bits that colons separate; returns how many.
fn push_groups(bits: &mut u128, text: &[u8]) -> Option<u32> {
    let mut count = 0;
    if text.is_empty() {
        return Some(count);
    }
    for digits in split(text, b':') {
        if !matches!(digits.len(), 1..=4) {
            return None;
        }
        let mut group = 0;
        for &digit in digits {
            group = group << 4 | char::from(digit).to_digit(16)?;
        }
        *bits = *bits << 16 | u128::from(group);
        count += 1;
    }
    Some(count)
}

/// A port number, 0 to 65535, in digits alone.
pub fn parse_port(text: &[u8]) -> Option<u16> {
    parse_number(text, u16::MAX.into())?.try_into().ok()
}

/// A whole number up to `max`, in digits alone: no sign, no space.
pub fn parse_number(text: &[u8], max: u32) -> Option<u32> {
    if text.is_empty() {
        return None;
    }
    let mut number = 0u32;
    for byte in text {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number = number.checked_mul(10)?.checked_add(digit.into())?;
    }
    (number <= max).then_some(number)
}

/// The parts of `text` between the `separator`s.
pub fn split(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    text.split(move |&byte| byte == separator)
}

/// What is before the first `separator`, and what is after it.
pub fn split_at_first(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|&byte| byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// What is before the last `separator`, and what is after it.
pub fn split_at_last(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().rposition(|&byte| byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// A duration: a whole number with `ms`, `s` or `m`, a bare number being seconds; at most
/// [`MAX_DURATION`].
pub fn parse_duration(text: &[u8]) -> Option<Duration> {
    Some(Duration::from_millis(parse_millis(text)?.into()))
}

/// What [`parse_duration`] reads, in milliseconds.
pub fn parse_millis(text: &[u8]) -> Option<u32> {
    let (number, millis) = if let Some(number) = text.strip_suffix(b"ms") {
        (number, 1)
    } else if let Some(number) = text.strip_suffix(b"s") {
        (number, 1_000)
    } else if let Some(number) = text.strip_suffix(b"m") {
        (number, 60_000)
    } else {
        (text, 1_000)
    };
    let number = parse_number(number, MAX_DURATION.as_millis() as u32 / millis)?;
    Some(number * millis)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    #[test]
    fn hosts_are_read_as_core_net_reads_them() {
        for host in [
            "0.0.0.0",
            "127.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "1::",
            "1::8",
            "2001:db8::ff00:42:8329",
            "1:2:3:4:5:6:7:8",
            "::2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7::",
            "0001:AbCd::",
        ] {
            let expected: IpAddr = host.parse().unwrap();
            let host = match expected {
                IpAddr::V4(_) => host.into(),
                IpAddr::V6(_) => std::format!("[{host}]"),
            };
            assert_eq!(parse_host(host.as_bytes()), Some(expected), "{host}");
        }
    }

    #[test]
    fn other_hosts_are_refused() {
        for host in [
            "",
            "1",
            "1.2.3",
            "1.2.3.4.5",
            "1.2.3.",
            "1.2.3.256",
            "01.2.3.4",
            "1.2.3.+4",
            "0x1.2.3.4",
            "localhost",
            "::1",
            "[::1",
            "[]",
            "[:]",
            "[:::]",
            "[1::2::3]",
            "[:1]",
            "[1:]",
            "[:1::]",
            "[1::2:]",
            "[1:2:3:4:5:6:7]",
            "[1:2:3:4:5:6:7:8:9]",
            "[1:2:3:4::5:6:7:8]",
            "[12345::]",
            "[g::]",
            "[1.2.3.4]",
            "[::1.2.3.4]",
            "[::1%1]",
        ] {
            assert_eq!(parse_host(host.as_bytes()), None, "{host}");
        }
    }

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        for (text, millis) in [
            ("0", 0),
            ("5", 5_000),
            ("5s", 5_000),
            ("250ms", 250),
            ("2m", 120_000),
            ("24000s", 24_000_000),
            ("1440m", 86_400_000),
            ("86400", 86_400_000),
            ("86400000ms", 86_400_000),
        ] {
            let expected = Some(Duration::from_millis(millis));
            assert_eq!(parse_duration(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn other_durations_are_refused() {
        for text in [
            "",
            "s",
            "ms",
            "m",
            "-1s",
            "+1s",
            "1.5s",
            "1 s",
            "1h",
            "1S",
            "1sm",
            "1441m",
            "86401",
            "86400001ms",
            "99999999999999999999",
        ] {
            assert_eq!(parse_duration(text.as_bytes()), None, "{text}");
        }
    }
}
