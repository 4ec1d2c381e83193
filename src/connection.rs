//! One connection, from accept to close.
//!
//! A connection that waits for a request holds no buffers: it is a socket with one timer, and
//! hyper's state for it is built when the first byte is there and given back when the connection
//! has been quiet for [`KEEP_BUFFERS`]. All deadlines are kept here, in that one timer, which is
//! looked at now and then and not set anew for each request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::has_budget_remaining;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::config::Limits;
use crate::listener::Peer;
use crate::log::{self, Level};
use crate::routes;
use crate::server::Shared;
use crate::slots::{Entry, Slot};

/// How long a quiet connection keeps its buffers, at least, and twice that at most: long enough that
/// a client which sends one request after the other never waits for new ones.
const KEEP_BUFFERS: Duration = Duration::from_millis(20);

/// How long to wait for a peer to close after an answer that it may not have read yet.
const LINGER: Duration = Duration::from_secs(1);

const CLOSE: HeaderValue = HeaderValue::from_static("close");
const REQUEST_TIMEOUT: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// Serves one connection until it is closed.
pub(crate) async fn serve(mut stream: TcpStream, peer: Peer, slot: Slot, shared: Arc<Shared>) {
    let limits = &shared.limits;
    let accepted = Instant::now();
    // The first head's time runs from accept on, so a client that never says a word has no more.
    let mut head_deadline = Some(accepted + limits.header_timeout);
    let (mut waiting_since, mut patience) = (accepted, limits.header_timeout);
    // Due at the first tick, as it will be once a byte is there: to set a timer to an earlier time
    // wakes the event loop.
    let mut timer = pin!(sleep_until(accepted + tick(limits)));
    let mut unparsed = Bytes::new();
    loop {
        if unparsed.is_empty() {
            match first_byte(
                stream,
                waiting_since,
                patience,
                timer.as_mut(),
                &slot,
                &shared,
            )
            .await
            {
                Some(readable) => stream = readable,
                None => return,
            }
        } else {
            slot.stay();
        }
        let head_deadline = head_deadline.take();
        let requests = serve_requests(
            stream,
            unparsed,
            head_deadline,
            timer.as_mut(),
            peer,
            &slot,
            &shared,
        );
        // In a box of its own: a connection that waits should not be as large as one that does not.
        let end;
        (end, stream, unparsed) = Box::pin(requests).await;
        match end {
            End::Quiet(since) => (waiting_since, patience) = (since, limits.idle_timeout),
            End::Late => {
                log::debug(format_args!("{peer}: request head not whole in time"));
                // The socket has room, or the peer would be a stalled one, and the event loop has
                // seen as much since the stream was registered.
                let _ = stream.try_write(REQUEST_TIMEOUT);
                return close(stream, true, timer.as_mut(), &slot).await;
            }
            End::Stalled => return log::debug(format_args!("{peer}: took no byte in time")),
            End::Closed { unread } => return close(stream, unread, timer.as_mut(), &slot).await,
        }
    }
}

/// Waits, with no buffer, for the first byte of a request. Gives the stream back if there is one;
/// nothing if the peer closed, the timer ran out, or the connection has to go.
async fn first_byte(
    stream: TcpStream,
    since: Instant,
    patience: Duration,
    mut timer: Pin<&mut Sleep>,
    slot: &Slot,
    shared: &Shared,
) -> Option<TcpStream> {
    let stays = poll_fn(|cx| {
        slot.register(cx.waker());
        if slot.asked() || shared.is_draining() {
            return Poll::Ready(None);
        }
        // `readable()` alone is sometimes woken for nothing, and buffers would be built for it.
        if let Poll::Ready(peeked) = stream.poll_peek(cx, &mut ReadBuf::new(&mut [0])) {
            return Poll::Ready(Some(peeked.is_ok_and(|bytes| bytes > 0)));
        }
        while timer.as_mut().poll(cx).is_ready() {
            if since + patience <= Instant::now() {
                return Poll::Ready(Some(false));
            }
            // Not at accept: the first request may be right behind it, and whoever is busy cannot
            // be asked to leave instead.
            slot.set_idle();
            timer.as_mut().reset(since + patience);
        }
        Poll::Pending
    });
    match stays.await {
        Some(true) => Some(stream),
        Some(false) => None,
        // The bytes of a request, which has to be answered first.
        None => unread(stream).inspect(|_| slot.stay()),
    }
}

/// The stream, if its socket holds bytes that nobody has read.
fn unread(stream: TcpStream) -> Option<TcpStream> {
    // Asks the kernel: what tokio knows of a socket may be older than the reason to ask.
    let socket = stream.into_std().ok()?;
    match socket.peek(&mut [0]) {
        Ok(1..) => TcpStream::from_std(socket).ok(),
        _ => None,
    }
}

/// Why a connection has no more use for its buffers.
enum End {
    /// Nothing to do since then.
    Quiet(Instant),
    /// A head was not whole in time.
    Late,
    /// The peer takes nothing.
    Stalled,
    /// HTTP says so, or an error; `unread` if the peer may have sent what nobody read.
    Closed { unread: bool },
}

/// Lets hyper serve requests until there is nothing to do or a deadline passes. Gives back the
/// stream, and what was read of it and not parsed.
async fn serve_requests(
    stream: TcpStream,
    unparsed: Bytes,
    head_deadline: Option<Instant>,
    timer: Pin<&mut Sleep>,
    peer: Peer,
    slot: &Slot,
    shared: &Shared,
) -> (End, TcpStream, Bytes) {
    let progress = Arc::new(Progress::new(slot.entry()));
    let io = TokioIo::new(Io {
        stream,
        unparsed,
        progress: progress.clone(),
    });
    let service = service_fn(|request| {
        progress.entry.set_busy();
        progress.enter(Phase::Answering);
        answer(request, peer, shared, &progress)
    });
    let mut http = shared.http1.serve_connection(io, service);
    let end = match drive(&mut http, head_deadline, timer, &progress, slot, shared).await {
        Ok(end) => end,
        Err(error) => {
            log::debug(format_args!("{peer}: {error}"));
            End::Closed { unread: true }
        }
    };
    let parts = http.into_parts();
    let io = parts.io.into_inner();
    let unparsed = match (parts.read_buf.is_empty(), io.unparsed.is_empty()) {
        // Even with nothing in it, either would keep the 8 KiB that it is a part of.
        (true, true) => Bytes::new(),
        (false, true) => parts.read_buf,
        (true, false) => io.unparsed,
        (false, false) => [parts.read_buf, io.unparsed].concat().into(),
    };
    (end, io.stream, unparsed)
}

async fn drive<S>(
    http: &mut http1::Connection<TokioIo<Io>, S>,
    mut head_deadline: Option<Instant>,
    mut timer: Pin<&mut Sleep>,
    progress: &Progress,
    slot: &Slot,
    shared: &Shared,
) -> hyper::Result<End>
where
    S: HttpService<Incoming, ResBody = Tracked, Error = Infallible>,
{
    let limits = &shared.limits;
    let keep_buffers = KEEP_BUFFERS.min(limits.idle_timeout);
    let tick = tick(limits);
    let first_tick = Instant::now() + tick;
    if timer.deadline() > first_tick {
        timer.as_mut().reset(first_tick);
    }
    let mut write_deadline = None;
    let mut quiet_since = None;
    let mut ticking = false;
    poll_fn(|cx| {
        slot.register(cx.waker());
        if let Poll::Ready(result) = Pin::new(&mut *http).poll(cx) {
            let unread = progress.unread_body.load(Relaxed);
            return Poll::Ready(result.map(|()| End::Closed { unread }));
        }
        if take(&progress.read) {
            quiet_since = None;
        }
        if progress.phase() != Phase::Quiet {
            // There may be more requests in hyper's buffer, of which no read tells.
            quiet_since = None;
            if slot.asked() {
                // Somebody else can go at once.
                slot.stay();
            }
        }
        match progress.phase() {
            Phase::Head => {
                head_deadline.get_or_insert_with(|| Instant::now() + limits.header_timeout);
            }
            Phase::Answering | Phase::Answered => head_deadline = None,
            Phase::Quiet => {
                head_deadline = None;
                let since = *quiet_since.get_or_insert_with(|| {
                    slot.set_idle();
                    // Near enough, and not one clock reading for each request.
                    timer.deadline()
                });
                if slot.asked() || shared.is_draining() {
                    return Poll::Ready(Ok(End::Quiet(since)));
                }
            }
        }
        if take(&progress.wrote) {
            write_deadline = None;
        }
        if progress.blocked.load(Relaxed) {
            write_deadline.get_or_insert_with(|| Instant::now() + limits.write_timeout);
        }
        // The timer has known this task since the first poll: to tell it again takes it four atomic
        // operations.
        if ticking && !timer.is_elapsed() {
            return Poll::Pending;
        }
        while timer.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let quiet_deadline = quiet_since.map(|since: Instant| since + keep_buffers);
            let has_passed = |deadline: Option<Instant>| deadline.is_some_and(|at| at <= now);
            if has_passed(write_deadline) {
                return Poll::Ready(Ok(End::Stalled));
            }
            if has_passed(head_deadline) {
                return Poll::Ready(Ok(End::Late));
            }
            if let (Some(since), true) = (quiet_since, has_passed(quiet_deadline)) {
                return Poll::Ready(Ok(End::Quiet(since)));
            }
            let deadlines = [write_deadline, head_deadline, quiet_deadline];
            timer.as_mut().reset(
                deadlines
                    .into_iter()
                    .flatten()
                    .fold(now + tick, Instant::min),
            );
        }
        // A task whose budget is spent gets no answer from a timer, but another turn.
        ticking = has_budget_remaining();
        Poll::Pending
    })
    .await
}

/// How often the deadlines of a connection with buffers are looked at. One that begins between two
/// ticks is seen at the second, before it can have passed.
fn tick(limits: &Limits) -> Duration {
    KEEP_BUFFERS
        .min(limits.idle_timeout)
        .min(limits.header_timeout)
        .min(limits.write_timeout)
}

/// Closes in stages (RFC 9112 section 9.6): to close a socket with unread bytes resets it, and the
/// reset can overtake the answer. So what still comes is thrown away, for a moment; `more` if the
/// peer may not have sent all of it yet.
async fn close(mut stream: TcpStream, more: bool, mut timer: Pin<&mut Sleep>, slot: &Slot) {
    let _ = poll_fn(|cx| Pin::new(&mut stream).poll_shutdown(cx)).await;
    if !more {
        match unread(stream) {
            Some(unread) => stream = unread,
            None => return,
        }
    }
    let now = Instant::now();
    timer.as_mut().reset(now + LINGER);
    slot.set_idle();
    poll_fn(|cx| {
        // First, because reads may never be pending.
        if timer.as_mut().poll(cx).is_ready() || slot.asked() {
            return Poll::Ready(());
        }
        loop {
            let mut buffer = [const { MaybeUninit::uninit() }; 1024];
            let mut buffer = ReadBuf::uninit(&mut buffer);
            match ready!(Pin::new(&mut stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => return Poll::Ready(()),
            }
        }
    })
    .await;
}

async fn answer(
    request: Request<Incoming>,
    peer: Peer,
    shared: &Shared,
    progress: &Arc<Progress>,
) -> Result<Response<Tracked>, Infallible> {
    let mut line = log::enabled(Level::Debug).then(|| Line::of(&request, peer));
    progress
        .unread_body
        .store(!request.body().is_end_stream(), Relaxed);
    let mut response = match has_valid_host(&request) {
        true => routes::respond(request, &shared.routes).await,
        false => {
            let mut response = routes::text(StatusCode::BAD_REQUEST, "bad request\n");
            response.headers_mut().insert(CONNECTION, CLOSE);
            response
        }
    };
    shared.slots.touch(&progress.entry);
    if shared.is_stopping() {
        response.headers_mut().insert(CONNECTION, CLOSE);
    }
    if let Some(line) = &mut line {
        line.status = response.status();
    }
    Ok(response.map(|body| Tracked {
        body,
        progress: progress.clone(),
        line,
    }))
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

/// Where a connection stands, as hyper's reads, writes and calls tell. Only the connection's own
/// task uses it; it is atomic because tasks have to be `Send`.
struct Progress {
    entry: Arc<Entry>,
    phase: AtomicU8,
    /// Bytes were read since the last look.
    read: AtomicBool,
    /// Bytes were written since the last look.
    wrote: AtomicBool,
    /// The last write found no room.
    blocked: AtomicBool,
    /// The last request came with a body, which its route may not have read.
    unread_body: AtomicBool,
}

#[derive(Clone, Copy, Eq, PartialEq)]
#[repr(u8)]
enum Phase {
    /// Some of a request's head may be there.
    Head,
    /// A request was handed to its route.
    Answering,
    /// hyper has the whole response, and not yet written it.
    Answered,
    /// All is written, and nothing was read since.
    Quiet,
}

/// Whether `flag` was set, which it no longer is. Not a swap: nobody else touches it.
fn take(flag: &AtomicBool) -> bool {
    let was = flag.load(Relaxed);
    flag.store(false, Relaxed);
    was
}

impl Progress {
    fn new(entry: Arc<Entry>) -> Self {
        entry.set_busy();
        Self {
            entry,
            phase: AtomicU8::new(Phase::Head as u8),
            read: AtomicBool::new(false),
            wrote: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            unread_body: AtomicBool::new(false),
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::Head,
            1 => Phase::Answering,
            2 => Phase::Answered,
            _ => Phase::Quiet,
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Relaxed);
    }
}

/// A stream that gives back bytes read earlier, and tells how far the connection is.
struct Io {
    stream: TcpStream,
    unparsed: Bytes,
    progress: Arc<Progress>,
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        if self.unparsed.is_empty() {
            ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        } else {
            let length = self.unparsed.len().min(buf.remaining());
            buf.put_slice(&self.unparsed.split_to(length));
        }
        if buf.filled().len() > before {
            self.progress.read.store(true, Relaxed);
            if self.progress.phase() == Phase::Quiet {
                // Before the answer is out, after which the client may rely on it.
                self.progress.entry.set_busy();
                self.progress.enter(Phase::Head);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.progress.phase() == Phase::Answered {
            self.progress.entry.set_idle();
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.progress.blocked.store(written.is_pending(), Relaxed);
        if written.is_ready() {
            self.progress.wrote.store(true, Relaxed);
        }
        written
    }

    /// hyper flushes when it has written all it has.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.progress.phase() == Phase::Answered {
            self.progress.enter(Phase::Quiet);
        }
        Poll::Ready(Ok(()))
    }

    /// Left to [`close`].
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A response's body. hyper drops it when it has taken all of it.
struct Tracked {
    body: Full<Bytes>,
    progress: Arc<Progress>,
    line: Option<Box<Line>>,
}

impl Body for Tracked {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if let (Poll::Ready(Some(Ok(frame))), Some(line)) = (&frame, &mut self.line) {
            line.bytes += frame.data_ref().map_or(0, Bytes::len);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.progress.enter(Phase::Answered);
        if let Some(line) = &self.line {
            line.log();
        }
    }
}

/// What the log says of a request.
struct Line {
    peer: Peer,
    started: Instant,
    method: Method,
    uri: Uri,
    status: StatusCode,
    bytes: usize,
}

impl Line {
    fn of(request: &Request<Incoming>, peer: Peer) -> Box<Self> {
        Box::new(Self {
            peer,
            started: Instant::now(),
            method: request.method().clone(),
            uri: request.uri().clone(),
            status: StatusCode::default(),
            bytes: 0,
        })
    }

    fn log(&self) {
        let Self {
            peer,
            method,
            status,
            bytes,
            ..
        } = self;
        let (path, micros) = (self.uri.path(), self.started.elapsed().as_micros());
        let status = status.as_u16();
        // `{:?}` escapes what came from the network; a method is a token and cannot need it.
        log::debug(format_args!(
            "{method} {path:?} {status} {bytes} bytes {micros} us {peer}"
        ));
    }
}
