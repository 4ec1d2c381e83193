//! The command line, and the variables that stand in for it.

use core::time::Duration;

use endpoint::{Invalid, non_empty, parse_duration, parse_number};

use crate::target::{Target, invalid_argument};

/// How many `--header` options there may be.
const MAX_HEADERS: usize = 16;

/// The bytes that all of them may have together.
const MAX_HEADER_BYTES: usize = 2048;

/// What to probe and what to expect of it.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// Default: the server that `LISTEN` and `PORT` describe, at `/health`.
    pub target: Target<'a>,
    /// `--timeout` or else `HEALTHCHECK_TIMEOUT`, above zero; default 3 s. One attempt, from before
    /// it connects to its verdict, ends within this.
    pub timeout: Duration,
    /// `--wait`, above zero: attempts are repeated until one is healthy or this time is up. Default:
    /// one attempt.
    pub wait: Option<Duration>,
    /// `--status`; default `200-299`.
    pub statuses: Statuses<'a>,
    /// `--method HEAD` instead of GET.
    pub head: bool,
    /// `--body`: what the body must have in its first 64 KiB.
    pub text: Option<&'a [u8]>,
    /// `--verbose`: one line when healthy too, and one for each failed attempt.
    pub verbose: bool,
    headers: [&'a [u8]; MAX_HEADERS],
}

/// Why there is nothing to probe.
#[derive(Clone, Copy, Debug)]
pub enum Stop<'a> {
    /// `--help`.
    Help,
    /// `--version`.
    Version,
    /// An argument or a variable that is not valid. Arguments that are no option's value have an
    /// empty name.
    Invalid(Invalid<'a>),
}

impl<'a> From<Invalid<'a>> for Stop<'a> {
    fn from(invalid: Invalid<'a>) -> Self {
        Self::Invalid(invalid)
    }
}

impl<'a> Options<'a> {
    /// Reads the arguments (without the program's name) and, through `variable`, the environment.
    /// An option's value is the next argument or follows a `=`. Where an option is repeated, the
    /// last one counts; `--header` adds up. A variable that an argument overrides is not looked at.
    ///
    /// # Errors
    ///
    /// [`Stop`], at the first argument that is a reason to.
    pub fn parse(
        mut arguments: impl Iterator<Item = &'a [u8]>,
        variable: impl Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Self, Stop<'a>> {
        let mut target = None;
        let mut timeout = None;
        let mut wait = None;
        let mut statuses = Statuses(b"200-299");
        let mut head = false;
        let mut text = None;
        let mut verbose = false;
        let mut headers = [b"".as_slice(); MAX_HEADERS];
        let mut header_slots = headers.iter_mut();
        let mut header_bytes = 0;
        // The last option given that has no meaning without HTTP, and its value.
        let mut needs_http = None;

        while let Some(argument) = arguments.next() {
            match argument {
                b"--help" => return Err(Stop::Help),
                b"--version" => return Err(Stop::Version),
                b"--verbose" => {
                    verbose = true;
                    continue;
                }
                _ => {}
            }
            let Some(option) = argument.strip_prefix(b"--") else {
                if target.replace(argument).is_some() {
                    return Err(invalid_argument(argument, "one target").into());
                }
                continue;
            };
            let mut parts = option.splitn(2, |&byte| byte == b'=');
            let option = parts.next().unwrap_or_default();
            let mut value = || {
                parts
                    .next()
                    .or_else(|| arguments.next())
                    .unwrap_or_default()
            };
            match option {
                b"timeout" => timeout = Some(parse_positive("--timeout", value())?),
                b"wait" => wait = Some(parse_positive("--wait", value())?),
                b"status" => {
                    let value = value();
                    needs_http = Some(("--status", value));
                    statuses = Statuses::parse(value).ok_or(Invalid {
                        variable: "--status",
                        value,
                        rule: "statuses from 100 to 999 such as 200-299,401",
                    })?;
                }
                b"header" => {
                    let value = value();
                    needs_http = Some(("--header", value));
                    header_bytes += value.len();
                    match header_slots.next() {
                        Some(slot) if is_header(value) && header_bytes <= MAX_HEADER_BYTES => {
                            *slot = value;
                        }
                        _ => {
                            return Err(Stop::Invalid(Invalid {
                                variable: "--header",
                                value,
                                rule: "'Name: value', at most 16 of them and 2048 bytes",
                            }));
                        }
                    }
                }
                b"method" => {
                    let value = value();
                    needs_http = Some(("--method", value));
                    head = match value {
                        b"GET" => false,
                        b"HEAD" => true,
                        _ => {
                            return Err(Stop::Invalid(Invalid {
                                variable: "--method",
                                value,
                                rule: "GET or HEAD",
                            }));
                        }
                    };
                }
                b"body" => {
                    let value = value();
                    needs_http = Some(("--body", value));
                    text = Some(value);
                }
                _ => return Err(invalid_argument(argument, "an option that --help lists").into()),
            }
        }

        let target = match target {
            Some(argument) if !argument.starts_with(b"/") => Target::from_argument(argument)?,
            path => Target::from_environment(variable("LISTEN"), variable("PORT"), path)?,
        };
        if let (None, Some((variable, value))) = (target.path, needs_http) {
            return Err(Stop::Invalid(Invalid {
                variable,
                value,
                rule: "a target other than tcp://",
            }));
        }
        if let Some(value) = text
            && (head || value.is_empty())
        {
            return Err(Stop::Invalid(Invalid {
                variable: "--body",
                value,
                rule: "some text, and --method GET",
            }));
        }
        let timeout = match (timeout, non_empty(variable("HEALTHCHECK_TIMEOUT"))) {
            (Some(timeout), _) => timeout,
            (None, Some(value)) => parse_positive("HEALTHCHECK_TIMEOUT", value)?,
            (None, None) => Duration::from_secs(3),
        };
        Ok(Self {
            target,
            timeout,
            wait,
            statuses,
            head,
            text,
            verbose,
            headers,
        })
    }

    /// The `--header` options, in their order.
    pub fn headers(&self) -> impl Iterator<Item = &'a [u8]> {
        self.headers.into_iter().filter(|header| !header.is_empty())
    }
}

fn parse_positive<'a>(variable: &'static str, value: &'a [u8]) -> Result<Duration, Invalid<'a>> {
    parse_duration(value)
        .filter(|duration| !duration.is_zero())
        .ok_or(Invalid {
            variable,
            value,
            rule: "a duration such as 500ms, 3s or 1m, above zero and at most 24 hours",
        })
}

/// A header field on one line (RFC 9112 section 5): a name, a colon, a value.
fn is_header(field: &[u8]) -> bool {
    let mut parts = field.splitn(2, |&byte| byte == b':');
    let name = parts.next().unwrap_or_default();
    let Some(value) = parts.next() else {
        return false;
    };
    !name.is_empty()
        && name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
        && value
            .iter()
            .all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// A list of statuses and ranges of them, as it was written: `200-299,401`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Statuses<'a>(&'a [u8]);

impl<'a> Statuses<'a> {
    /// `None` unless every item is a status from 100 to 999, or two of them in order with a `-`
    /// between.
    pub fn parse(list: &'a [u8]) -> Option<Self> {
        let mut items = list.split(|&byte| byte == b',');
        items
            .all(|item| range(item).is_some())
            .then_some(Self(list))
    }

    /// Whether `status` is in one of the ranges.
    pub fn contains(&self, status: u16) -> bool {
        let mut items = self.0.split(|&byte| byte == b',').filter_map(range);
        items.any(|(first, last)| (first..=last).contains(&u32::from(status)))
    }

    /// The list as it was written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

fn range(item: &[u8]) -> Option<(u32, u32)> {
    let status = |text| parse_number(text, 999).filter(|&status| status >= 100);
    let mut ends = item.splitn(2, |&byte| byte == b'-');
    let first = status(ends.next()?)?;
    let last = ends.next().map_or(Some(first), status)?;
    (first <= last).then_some((first, last))
}
