//! Stream that closes the connections of slow clients. hyper has one timeout for the wait for a request and for the
//! remainder of its head; behind a load balancer the first must be long, and the second must be short.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{self, Instant, Sleep};

use super::connection_limit::ConnectionLimit;
use super::connection_state::ConnectionState;
use crate::answer_memory::AnswerMemory;
use crate::middleware::head_check;
use crate::problem::Problem;

/// Time within which the head of a request arrives, from its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that a connection may be idle: longer than the 60 s of a load balancer, which would otherwise
/// send a request into a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// The same while all slots are taken, and the interval of that check.
const IDLE_TIMEOUT_AT_LIMIT: Duration = Duration::from_secs(10);
/// The same on a reserved slot, head included.
const RESERVED_TIMEOUT: Duration = Duration::from_secs(1);
/// Time within which a client reads what was written: a part of a list has some 200 kB.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The same while the memory for long answers is taken, and the interval of that check.
const ANSWER_TIMEOUT_AT_LIMIT: Duration = Duration::from_secs(5);
/// A longer head is rejected before hyper rejects it: above the limits of the middleware.
const MAX_HEAD_BYTES: usize = 26 * 1024;

/// Maximum size of one read: hyper's buffer grows with what fills it, up to 128 KiB, and never shrinks.
const READ_BYTES: usize = 8 * 1024;

/// A client's stream.
#[derive(Debug)]
pub(super) struct TimedStream {
    stream: TcpStream,
    state: Arc<ConnectionState>,
    /// None on a reserved slot.
    limit: Option<Arc<ConnectionLimit>>,
    answer_memory: Arc<AnswerMemory>,
    sleep: Pin<Box<Sleep>>,
    /// The number of requests when the wait for the next one began.
    requests: u32,
    waits_since: Option<Instant>,
    head_since: Option<Instant>,
    head_bytes: usize,
    has_line: bool,
    unread_since: Option<Instant>,
    /// The reason why the head of a request was not read to its end.
    rejection: Option<Problem>,
}

impl TimedStream {
    pub(super) fn new(
        stream: TcpStream,
        state: Arc<ConnectionState>,
        limit: Option<Arc<ConnectionLimit>>,
        answer_memory: Arc<AnswerMemory>,
    ) -> Self {
        Self {
            stream,
            state,
            limit,
            answer_memory,
            sleep: Box::pin(time::sleep(IDLE_TIMEOUT_AT_LIMIT)),
            requests: 0,
            waits_since: None,
            head_since: None,
            head_bytes: 0,
            has_line: false,
            unread_since: None,
            rejection: None,
        }
    }

    pub(super) fn into_parts(self) -> (TcpStream, Option<Problem>) {
        (self.stream, self.rejection)
    }

    fn reject(&mut self, problem: Problem) -> io::Error {
        self.rejection = Some(problem);
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

    /// Starts the wait for the next request once the last head has become a request.
    fn begin_wait(&mut self) {
        let requests = self.state.requests();
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

    /// Returns the deadline of the next request, or of the remainder of its head.
    fn next_deadline(&mut self, now: Instant) -> Instant {
        let waits_since = *self.waits_since.get_or_insert(now);
        match (&self.limit, self.head_since) {
            (None, _) => waits_since + RESERVED_TIMEOUT,
            (Some(_), Some(head_since)) => head_since + HEAD_TIMEOUT,
            (Some(limit), None) if limit.is_reached() => waits_since + IDLE_TIMEOUT_AT_LIMIT,
            (Some(_), None) => waits_since + IDLE_TIMEOUT,
        }
    }

    /// Sleeps until `wake` at the latest. The timer is set rarely, not for each request.
    fn poll_sleep(&mut self, cx: &mut Context<'_>, wake: Instant) -> Poll<()> {
        if self.sleep.is_elapsed() || self.sleep.deadline() > wake {
            self.sleep.as_mut().reset(wake);
        }
        self.sleep.as_mut().poll(cx)
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let now = Instant::now();
            let until = self.next_deadline(now);
            if now < until {
                ready!(self.poll_sleep(cx, until.min(now + IDLE_TIMEOUT_AT_LIMIT)));
            } else if self.head_since.is_some() {
                return Poll::Ready(Err(self.reject(head_check::slow_head())));
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
            let timeout = if self.answer_memory.is_short() {
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
        if this.state.is_answering() {
            // The bytes belong to a body, which has a timeout of its own.
            return this.poll_read_some(cx, buffer);
        }
        this.begin_wait();
        if this.head_bytes >= MAX_HEAD_BYTES {
            let problem = if this.has_line {
                head_check::header_fields_too_large()
            } else {
                head_check::uri_too_long()
            };
            return Poll::Ready(Err(this.reject(problem)));
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

    /// Called when all buffered bytes have been written.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unread_since = None;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.rejection.is_some() {
            // The early response is still to be written.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
