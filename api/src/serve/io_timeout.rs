//! A stream that ends connections whose client is too slow. hyper has one clock for the time between
//! requests and the time within a head; a balancer needs the first to be long, and we the second short.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{self, Instant, Sleep};

use super::connection_limit::ConnectionLimit;
use crate::App;
use crate::edge;
use crate::problem::Problem;

/// How long the head of a request may take, from its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may wait for its next request: longer than the 60 s of a load balancer,
/// which would otherwise send a request into a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// The same while all slots are taken, and how often that is looked at.
const IDLE_TIMEOUT_AT_LIMIT: Duration = Duration::from_secs(10);
/// The same on a reserved slot, with the head.
const RESERVED_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a client may take to read what is there for it: a part of a list is some 200 kB.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same while the memory for long answers is taken, and how often that is looked at.
const ANSWER_TIMEOUT_AT_LIMIT: Duration = Duration::from_secs(5);
/// A head that is longer is refused before hyper refuses it: above the limits of the edge.
const MAX_HEAD_BYTES: usize = 26 * 1024;

/// The most that is read at once: hyper's buffer grows with what fills it, up to 128 KiB, and stays.
const READ_BYTES: usize = 8 * 1024;

/// What a connection does, as its service sees it.
#[derive(Debug, Default)]
pub(super) struct Activity {
    requests: AtomicU32,
    is_answering: AtomicBool,
}

impl Activity {
    pub(super) fn begin_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.is_answering.store(true, Ordering::Relaxed);
    }

    pub(super) fn end_request(&self) {
        self.is_answering.store(false, Ordering::Relaxed);
    }

    /// Returns whether there has been a request.
    pub(super) fn has_asked(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }
}

/// A client's stream.
#[derive(Debug)]
pub(super) struct TimedStream {
    stream: TcpStream,
    activity: Arc<Activity>,
    /// None on a reserved slot.
    limit: Option<Arc<ConnectionLimit>>,
    app: App,
    sleep: Pin<Box<Sleep>>,
    /// The count of requests when the wait for the next one began.
    requests: u32,
    waits_since: Option<Instant>,
    head_since: Option<Instant>,
    head_bytes: usize,
    has_line: bool,
    unread_since: Option<Instant>,
    /// Why the head of a request was not read to its end.
    refusal: Option<Problem>,
}

impl TimedStream {
    pub(super) fn new(
        stream: TcpStream,
        activity: Arc<Activity>,
        limit: Option<Arc<ConnectionLimit>>,
        app: App,
    ) -> Self {
        Self {
            stream,
            activity,
            limit,
            app,
            sleep: Box::pin(time::sleep(IDLE_TIMEOUT_AT_LIMIT)),
            requests: 0,
            waits_since: None,
            head_since: None,
            head_bytes: 0,
            has_line: false,
            unread_since: None,
            refusal: None,
        }
    }

    pub(super) fn into_parts(self) -> (TcpStream, Option<Problem>) {
        (self.stream, self.refusal)
    }

    fn refuse(&mut self, why: Problem) -> io::Error {
        self.refusal = Some(why);
        io::ErrorKind::TimedOut.into()
    }

    fn poll_read_some(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = Pin::new(&mut self.stream);
        if buffer.remaining() <= READ_BYTES {
            return stream.poll_read(cx, buffer);
        }
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(READ_BYTES));
        ready!(stream.poll_read(cx, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }

    /// Forgets the head that was read last once it has become a request.
    fn begin_wait(&mut self) {
        let requests = self.activity.requests.load(Ordering::Relaxed);
        if requests != self.requests {
            self.requests = requests;
            (self.waits_since, self.head_since) = (None, None);
            (self.head_bytes, self.has_line) = (0, false);
        }
    }

    fn note_head(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.head_since.get_or_insert_with(Instant::now);
            self.head_bytes += bytes.len();
            self.has_line |= bytes.contains(&b'\n');
        }
    }

    /// Returns until when a request, or the rest of its head, is waited for.
    fn waits_until(&mut self, now: Instant) -> Instant {
        let waits_since = *self.waits_since.get_or_insert(now);
        match (&self.limit, self.head_since) {
            (None, _) => waits_since + RESERVED_TIMEOUT,
            (Some(_), Some(head_since)) => head_since + HEAD_TIMEOUT,
            (Some(limit), None) if limit.is_reached() => waits_since + IDLE_TIMEOUT_AT_LIMIT,
            (Some(_), None) => waits_since + IDLE_TIMEOUT,
        }
    }

    /// Sleeps until `wake` at the latest. The timer is set rarely, not at each request.
    fn poll_sleep(&mut self, cx: &mut Context<'_>, wake: Instant) -> Poll<()> {
        if self.sleep.is_elapsed() || self.sleep.deadline() > wake {
            self.sleep.as_mut().reset(wake);
        }
        self.sleep.as_mut().poll(cx)
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let now = Instant::now();
            let until = self.waits_until(now);
            if now < until {
                ready!(self.poll_sleep(cx, until.min(now + IDLE_TIMEOUT_AT_LIMIT)));
            } else if self.head_since.is_some() {
                return Poll::Ready(Err(self.refuse(edge::slow_head())));
            } else {
                // As if the client had closed its side: hyper ends the connection.
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let since = *self.unread_since.get_or_insert_with(Instant::now);
        loop {
            let now = Instant::now();
            let is_short = self.app.answer_memory.is_short();
            let timeout = if is_short {
                ANSWER_TIMEOUT_AT_LIMIT
            } else {
                ANSWER_TIMEOUT
            };
            let until = since + timeout;
            if until <= now {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            ready!(self.poll_sleep(cx, until.min(now + ANSWER_TIMEOUT_AT_LIMIT)));
        }
    }
}

impl AsyncRead for TimedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.activity.is_answering.load(Ordering::Relaxed) {
            // What is read is a body, which has a time of its own.
            return this.poll_read_some(cx, buffer);
        }
        this.begin_wait();
        if this.head_bytes >= MAX_HEAD_BYTES {
            let problem = if this.has_line {
                edge::header_fields_too_large()
            } else {
                edge::uri_too_long()
            };
            return Poll::Ready(Err(this.refuse(problem)));
        }
        let filled = buffer.filled().len();
        match this.poll_read_some(cx, buffer) {
            Poll::Ready(read) => {
                this.note_head(buffer.filled().get(filled..).unwrap_or(&[]));
                Poll::Ready(read)
            }
            Poll::Pending => this.poll_waiting(cx),
        }
    }
}

impl AsyncWrite for TimedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.poll_unread(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when everything that was there has been written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unread_since = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.refusal.is_some() {
            // There is something left to say.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
