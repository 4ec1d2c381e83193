//! The command line, and the variables that stand in for it.

use settings::{Endpoint, non_empty, parse_millis, parse_number, split, split_at_first};

use crate::expansion::expand;
use crate::target::{Target, check_path};
use crate::text::Text;

/// Milliseconds.
const DEFAULT_TIMEOUT: u32 = 3_000;

/// The bytes that all headers may have together, with the ends of their lines.
const MAX_HEADERS: usize = 2048;

/// Room for the longest target and the most headers, once they are expanded. Text that does not fit is cut,
/// and is then still too long for its rule.
pub const ROOM: usize = MAX_HEADERS + 1536;

/// What to probe and what to expect of it. Times are in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    /// What is being read, so that an error can name it.
    pub subject: Subject<'a>,
    /// What to do.
    pub action: Action,
    /// Default: the server that `LISTEN` and `PORT` describe, at `/health`.
    pub target: Target<'a>,
    /// `--timeout` or else `HEALTHCHECK_TIMEOUT`, above zero; default 3 s. One attempt, from before
    /// it connects to its verdict, ends within this.
    pub timeout: u32,
    /// `--wait`: attempts are repeated until one is healthy or this time is up. Default: zero, which
    /// is one attempt.
    pub wait: u32,
    /// `--status`; default `200-299`.
    pub statuses: Statuses<'a>,
    /// `--method HEAD` instead of GET.
    pub head: bool,
    /// `--body`: what the body must have in its first 64 KiB, at least one byte. Default: no body is
    /// read.
    pub text: Option<&'a [u8]>,
    /// `--verbose`: one line when healthy too, and one for each change of the answer.
    pub verbose: bool,
    /// `--header`, in their order, each with the end of its line.
    pub headers: &'a [u8],
}

/// What to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    /// Probe the target.
    Probe,
    /// `--help`.
    Help,
    /// `--version`.
    Version,
}

/// What is being read, so that an error can name it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Subject<'a> {
    /// An option or a variable; empty for an argument that is no option's value.
    pub name: &'a [u8],
    /// Its value, as found.
    pub value: &'a [u8],
}

impl Default for Options<'_> {
    /// The options before anything is read.
    fn default() -> Self {
        Self {
            subject: Subject::default(),
            action: Action::Probe,
            target: Target::default(),
            timeout: 0,
            wait: 0,
            statuses: Statuses(b"200-299"),
            head: false,
            text: None,
            verbose: false,
            headers: b"",
        }
    }
}

impl<'a> Options<'a> {
    /// Reads the arguments (without the program's name) and, through `variable`, the environment.
    /// `${NAME}` is expanded in the target and in headers, for which there is `room`.
    ///
    /// An option's value is the next argument or follows a `=`. Where an option is repeated, the
    /// last one counts; `--header` adds up. A variable that an argument overrides is not looked at.
    ///
    /// # Errors
    ///
    /// The rule that `subject` breaks, to be read after "expected".
    // Not inlined: 180 bytes less.
    #[inline(never)]
    pub fn read(
        &mut self,
        mut arguments: impl Iterator<Item = &'a [u8]>,
        variable: impl Fn(&[u8]) -> Option<&'a [u8]>,
        room: &'a mut [u8; ROOM],
    ) -> Result<(), &'static str> {
        let mut target = None;
        let mut needs_http = false;
        let mut text = Text::new(room);
        let mut headers_end = 0;
        while let Some(argument) = arguments.next() {
            self.subject = subject(b"", argument);
            if !argument.starts_with(b"-") {
                if target.replace(argument).is_some() {
                    return Err("one target");
                }
                continue;
            }
            if argument == b"--help" || argument == b"-h" {
                self.action = Action::Help;
                return Ok(());
            }
            if argument == b"--version" {
                self.action = Action::Version;
                return Ok(());
            }
            if argument == b"--verbose" {
                self.verbose = true;
                continue;
            }
            let (name, value) = match split_at_first(argument, b'=') {
                Some((name, value)) => (name, Some(value)),
                None => (argument, None),
            };
            let value = value.or_else(|| arguments.next()).unwrap_or_default();
            self.subject = subject(name, value);
            let (is_valid, rule) = if name == b"--timeout" {
                (read_time(&mut self.timeout, value), TIME)
            } else if name == b"--wait" {
                (read_time(&mut self.wait, value), TIME)
            } else {
                needs_http = true;
                if name == b"--status" {
                    let rule = "statuses such as 200-299,401";
                    self.statuses = Statuses::parse(value).ok_or(rule)?;
                    (true, rule)
                } else if name == b"--header" {
                    // What it expands to may be secret, so an error shows what was written instead.
                    expand(&mut text, value, &variable, &mut self.subject)?;
                    let is_valid =
                        is_header(text.as_bytes().get(headers_end..).unwrap_or_default());
                    text.push(b"\r\n");
                    headers_end = text.len();
                    let rule = "'Name: value' on one line, 2048 bytes in all";
                    (is_valid && headers_end <= MAX_HEADERS, rule)
                } else if name == b"--method" {
                    self.head = value == b"HEAD";
                    (self.head || value == b"GET", "GET or HEAD")
                } else if name == b"--body" {
                    self.text = Some(value);
                    (!value.is_empty(), "some text")
                } else {
                    self.subject = subject(b"", argument);
                    (false, "an option that --help lists")
                }
            };
            if !is_valid {
                return Err(rule);
            }
            if self.head && self.text.is_some() {
                return Err("no --body with HEAD");
            }
        }
        let target = target.unwrap_or(b"/health");
        self.subject = subject(b"", target);
        expand(&mut text, target, &variable, &mut self.subject)?;
        let (headers, target) = text
            .into_bytes()
            .split_at_checked(headers_end)
            .unwrap_or_default();
        self.headers = headers;
        self.read_target(target, needs_http, &variable)?;
        if self.timeout == 0 {
            self.timeout = DEFAULT_TIMEOUT;
            if let Some(value) = non_empty(variable(b"HEALTHCHECK_TIMEOUT")) {
                self.subject = subject(b"HEALTHCHECK_TIMEOUT", value);
                if !read_time(&mut self.timeout, value) {
                    return Err(TIME);
                }
            }
        }
        Ok(())
    }

    // Not inlined: 110 bytes less.
    #[inline(never)]
    fn read_target(
        &mut self,
        argument: &'a [u8],
        needs_http: bool,
        variable: impl Fn(&[u8]) -> Option<&'a [u8]>,
    ) -> Result<(), &'static str> {
        self.subject = subject(b"", argument);
        if !argument.starts_with(b"/") {
            self.target = Target::parse(argument)?;
            if needs_http && self.target.path.is_empty() {
                return Err("HTTP, for the options given");
            }
            return Ok(());
        }
        check_path(argument)?;
        let (listen, port) = (variable(b"LISTEN"), variable(b"PORT"));
        self.subject = match non_empty(listen) {
            Some(value) => subject(b"LISTEN", value),
            None => subject(b"PORT", port.unwrap_or_default()),
        };
        let endpoint = Endpoint::from_variables(listen, port).map_err(|invalid| invalid.rule)?;
        self.target = Target::at_endpoint(endpoint, self.subject.value, argument)?;
        Ok(())
    }
}

fn subject<'a>(name: &'a [u8], value: &'a [u8]) -> Subject<'a> {
    Subject { name, value }
}

const TIME: &str = "a time such as 500ms, 3s or 1m, above 0, at most 24 hours";

fn read_time(millis: &mut u32, value: &[u8]) -> bool {
    *millis = parse_millis(value).unwrap_or(0);
    *millis != 0
}

/// A header field on one line (RFC 9112 section 5): a name, a colon, a value.
fn is_header(field: &[u8]) -> bool {
    let ends_name = |byte: &u8| *byte == b':' || !byte.is_ascii_graphic();
    let is_text = |byte: &u8| matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let colon = field.iter().position(ends_name).unwrap_or(0);
    colon > 0 && field.get(colon) == Some(&b':') && field.iter().all(is_text)
}

/// A list of statuses and ranges of them, as it was written: `200-299,401`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Statuses<'a>(&'a [u8]);

impl<'a> Statuses<'a> {
    /// A list whose items are each a status or a range, from 100 to 999.
    pub fn parse(list: &'a [u8]) -> Option<Self> {
        let mut items = split(list, b',');
        items
            .all(|item| parse_range(item).is_some())
            .then_some(Self(list))
    }

    /// Whether `status` is in one of the ranges.
    pub fn contains(&self, status: u16) -> bool {
        split(self.0, b',')
            .filter_map(parse_range)
            .any(|(first, last)| (first..=last).contains(&status.into()))
    }

    /// The list as it was written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.0
    }
}

fn parse_range(item: &[u8]) -> Option<(u32, u32)> {
    let (first, last) = split_at_first(item, b'-').unwrap_or((item, item));
    let (first, last) = (parse_number(first, 999)?, parse_number(last, 999)?);
    (100 <= first && first <= last).then_some((first, last))
}
