//! One request and its answer.

use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Buf, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use pin_project_lite::pin_project;
use tokio::task::coop::poll_proceed;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::activity::{Activity, Phase};
use crate::lifecycle::{Lifecycle, Stage};
use crate::listener::Peer;
use crate::log::{self, Level};
use crate::service::AnyService;

const CLOSE: HeaderValue = HeaderValue::from_static("close");

/// The most that hyper is given of an answer at a time, because it copies that into its buffer.
const PIECE: usize = 16 * 1024;

/// Puts the skeleton's part around a call of the service.
pub(super) struct Exchange<'c, S> {
    pub(super) service: &'c S,
    pub(super) lifecycle: &'c Lifecycle,
    pub(super) peer: Peer,
    pub(super) activity: &'c Rc<Activity>,
}

impl<S: AnyService> Exchange<'_, S> {
    pub(super) async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<AnswerBody<S::ResBody>>, Infallible> {
        let had_body = !request.body().is_end_stream();
        self.activity.record(|seen| {
            (seen.phase, seen.called) = (Phase::Answering, true);
            seen.had_body = had_body;
            seen.is_http_1_0 = request.version() == Version::HTTP_10;
            seen.says_close = had_body && (seen.is_http_1_0 || says_close(request.headers()));
        });
        let mut ending = Ending {
            activity: self.activity.clone(),
            line: log::enabled(Level::Debug).then(|| Line::new(&request, self.peer)),
        };
        let mut response = if has_valid_host(&request) {
            self.service
                .call(request)
                .await
                .map(|response| response.map(Some))?
        } else {
            refusal(StatusCode::BAD_REQUEST)
        };
        if had_body {
            // Until hyper has seen that nobody reads the rest of the body, it does not know that it
            // has to close the connection, and would not say so in the head.
            yield_now().await;
            if self.activity.seen().body_timed_out {
                response = refusal(StatusCode::REQUEST_TIMEOUT);
            }
        }
        if self.lifecycle.has_reached(Stage::Stopping) {
            response.headers_mut().insert(CONNECTION, CLOSE);
        }
        if had_body && says_close(response.headers()) {
            self.activity.record(|seen| seen.says_close = true);
        }
        if let Some(line) = &mut ending.line {
            line.status = Some(response.status());
        }
        Ok(response.map(|body| AnswerBody {
            body,
            rest: None,
            ending,
        }))
    }
}

/// The skeleton's own answer, after which the connection is closed.
fn refusal<B>(status: StatusCode) -> Response<Option<B>> {
    let mut response = Response::new(None);
    *response.status_mut() = status;
    response.headers_mut().insert(CONNECTION, CLOSE);
    response
}

/// Whether the connection closes after the message (RFC 9112 section 9.6).
fn says_close(headers: &HeaderMap) -> bool {
    let mut values = headers.iter().filter(|(name, _)| *name == CONNECTION);
    values.any(|(_, value)| {
        let mut options = value.as_bytes().split(|byte| *byte == b',');
        options.any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    })
}

/// RFC 9112 section 3.2: one `Host` with a valid value in HTTP/1.1, at most one in HTTP/1.0.
fn has_valid_host(request: &Request<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => host.as_bytes().iter().all(|byte| {
            // The characters of a host and a port (RFC 3986 section 3.2); `$` to `.` is `$%&'()*+,-.`.
            byte.is_ascii_alphanumeric()
                || matches!(
                    byte,
                    b'$'..=b'.' | b'!' | b':' | b';' | b'=' | b'[' | b']' | b'_' | b'~'
                )
        }),
        (None, _) => request.version() == Version::HTTP_10,
        (Some(_), Some(_)) => false,
    }
}

pin_project! {
    /// The body of an answer. hyper drops it when it has taken all of it.
    pub(super) struct AnswerBody<B: Body> {
        // An answer of the skeleton itself has none.
        #[pin]
        body: Option<B>,
        // What is left of the last frame.
        rest: Option<B::Data>,
        ending: Ending,
    }
}

impl<B: Body> Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        // Spends the task's cooperative budget: hyper takes frames for as long as there are any and the peer
        // keeps up, and other connections would have to wait.
        ready!(poll_proceed(cx)).made_progress();
        let this = self.project();
        if this.rest.is_none() {
            let Some(body) = this.body.as_pin_mut() else {
                return Poll::Ready(None);
            };
            let Some(frame) = ready!(body.poll_frame(cx)?) else {
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(data) => *this.rest = Some(data),
                Err(frame) => {
                    return Poll::Ready(
                        frame
                            .into_trailers()
                            .ok()
                            .map(|trailers| Ok(Frame::trailers(trailers))),
                    );
                }
            }
        }
        let mut piece = Bytes::new();
        if let Some(rest) = this.rest {
            piece = rest.copy_to_bytes(rest.remaining().min(PIECE));
            if !rest.has_remaining() {
                *this.rest = None;
            }
        }
        if let Some(line) = &mut this.ending.line {
            line.bytes += piece.len();
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // hyper calls this before it takes the first frame, when there is no rest.
        self.body
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Ends the exchange when it is dropped: with the answer's body, or with the handler where a
/// connection ends before there is an answer.
struct Ending {
    activity: Rc<Activity>,
    line: Option<Box<Line>>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.activity.record(|seen| seen.phase = Phase::Answered);
        if let Some(line) = &self.line {
            line.write(self.activity.seen().is_broken_off);
        }
    }
}

/// What the log says of a request.
struct Line {
    peer: Peer,
    started: Instant,
    method: Method,
    uri: Uri,
    status: Option<StatusCode>,
    bytes: usize,
}

impl Line {
    fn new(request: &Request<Incoming>, peer: Peer) -> Box<Self> {
        Box::new(Self {
            peer,
            started: Instant::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            status: None,
            bytes: 0,
        })
    }

    fn write(&self, is_broken_off: bool) {
        let Self {
            peer,
            method,
            bytes,
            ..
        } = self;
        // What came from the network must not break the line; a method is a token, and cannot.
        let path = self.uri.path().as_bytes().escape_ascii();
        // 64 bits are enough, and nothing else needs std's code that formats 128.
        let micros = self.started.elapsed().as_micros() as u64;
        let status = self.status.as_ref().map_or("-", StatusCode::as_str);
        let suffix = if is_broken_off { " abandoned" } else { "" };
        log::debug(format_args!(
            "{method} \"{path}\" {status} {bytes} bytes {micros} us {peer}{suffix}"
        ));
    }
}
