//! The wire of one connection: patient between requests, less so within the head of one or with a
//! client that does not read, and a catch for what hyper would answer by itself.

use std::io::{self, IoSlice, Read as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{self, Instant, Sleep};

use super::progress::{Progress, Stage};

/// How long the head of a request may take, from its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may wait for its next request: longer than the 60 s of a load balancer,
/// which would otherwise send a request into a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a client may take to read what does not fit into the buffers of the network at once. A
/// list of 10,000 usual rows is about 3 MB: whoever reads 100 kB in a second reads all of it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection on a place of the reserve may take over the head of its request, and how
/// long a new one is waited for while the program ends.
const MOMENT: Duration = Duration::from_secs(1);

/// The wire of one connection.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    progress: Arc<Progress>,
    alarm: Alarm,
    /// Whether bytes of a head have come, and since when the rest is waited for.
    is_within_head: bool,
    head_since: Option<Instant>,
    waits_since: Instant,
    /// Since when the client has not read an answer.
    unread_since: Option<Instant>,
    /// The status that hyper would have answered with.
    caught: Option<u16>,
    end: Option<End>,
}

/// How the reading or writing ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The client closed its side.
    ByClient,
    /// The head of a request did not come in time.
    SlowHead,
    /// The client did not read an answer in time.
    Unread,
    /// Nothing was asked for long enough, or until the end of the program.
    Idle,
}

impl Wire {
    pub(super) fn new(stream: TcpStream, progress: Arc<Progress>) -> Self {
        Self {
            waits_since: progress.began,
            stream,
            progress,
            alarm: Alarm(None),
            is_within_head: false,
            head_since: None,
            unread_since: None,
            caught: None,
            end: None,
        }
    }

    /// Returns the status that hyper would have answered with, if it could not read a request.
    pub(super) fn caught(&self) -> Option<u16> {
        self.caught
    }

    pub(super) fn end(&self) -> Option<End> {
        self.end
    }

    /// Returns whether it was on a place of the reserve, and came to nothing there.
    pub(super) fn found_no_room(&self) -> bool {
        let is_late = matches!(self.end, Some(End::Idle | End::SlowHead));
        is_late && self.progress.is_spare && !self.progress.has_asked()
    }

    /// Returns whether others wait for its place.
    pub(super) fn is_in_haste(&self) -> bool {
        self.progress.is_spare || self.progress.is_unwanted()
    }

    pub(super) fn into_stream(self) -> TcpStream {
        self.stream
    }

    /// Returns until when the next bytes are waited for.
    fn patience(&mut self) -> Instant {
        let progress = &self.progress;
        if progress.is_unwanted() {
            return self.waits_since;
        }
        if self.is_within_head {
            let limit = if progress.is_spare {
                MOMENT
            } else {
                HEAD_TIMEOUT
            };
            return *self.head_since.get_or_insert_with(Instant::now) + limit;
        }
        match (progress.is_closing(), progress.is_spare) {
            (true, _) if progress.has_asked() => self.waits_since,
            (true, _) => progress.began + MOMENT,
            (false, true) => self.waits_since + MOMENT,
            (false, false) => self.waits_since + IDLE_TIMEOUT,
        }
    }

    /// Reads what has arrived, whether or not the runtime has heard of it yet.
    fn read_now(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let length = (&*SockRef::from(&self.stream)).read(buffer.initialize_unfilled())?;
        buffer.advance(length);
        Ok(())
    }

    /// Takes note of what was read of a head.
    fn note(&mut self, length: usize) {
        if length == 0 {
            self.end = Some(End::ByClient);
        } else {
            self.is_within_head = true;
        }
    }

    /// Returns whether hyper answers by itself, and notes how: it does so when it could not read a
    /// request, and then ends the connection.
    fn catches(&mut self, bytes: &[u8]) -> bool {
        if self.progress.stage() != Stage::Waiting {
            return false;
        }
        let status = bytes
            .strip_prefix(b"HTTP/1.")
            .and_then(|it| it.get(2..5))
            .and_then(|it| std::str::from_utf8(it).ok()?.parse().ok());
        self.caught = status.filter(|it| (400..500).contains(it));
        self.caught.is_some()
    }

    /// Waits for a client that does not read, but not for ever.
    fn poll_unread(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let since = *self.unread_since.get_or_insert_with(Instant::now);
        ready!(self.alarm.poll(cx, since + ANSWER_TIMEOUT));
        self.end = Some(End::Unread);
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let filled = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buffer);
        if this.progress.stage() != Stage::Waiting {
            // What is read is a body, which has a time of its own.
            return read;
        }
        if let Poll::Ready(read) = read {
            this.note(buffer.filled().len() - filled);
            return Poll::Ready(read);
        }
        if this.progress.is_closing() && this.read_now(buffer).is_ok() {
            this.note(buffer.filled().len() - filled);
            return Poll::Ready(Ok(()));
        }
        let until = this.patience();
        ready!(this.alarm.poll(cx, until));
        if this.is_within_head {
            this.end = Some(End::SlowHead);
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        this.end = Some(End::Idle);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.catches(bytes) {
            return Poll::Ready(Ok(bytes.len()));
        }
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.poll_unread(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.first().is_some_and(|it| self.catches(it)) {
            return Poll::Ready(Ok(slices.iter().map(|it| it.len()).sum()));
        }
        match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
            Poll::Ready(written) => Poll::Ready(written),
            Poll::Pending => self.poll_unread(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes when it has written what it had: an answer is over then, since each is written
    /// from one piece.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        if self.progress.stage() == Stage::Answering {
            self.waits_since = Instant::now();
            self.progress.waits(self.waits_since);
            self.is_within_head = false;
            self.head_since = None;
            self.unread_since = None;
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing is closed here: there may be something left to say.
    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A timer that is set rarely: one that rings too early is set anew then, and not at each request.
#[derive(Debug)]
struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    fn poll(&mut self, cx: &mut Context<'_>, until: Instant) -> Poll<()> {
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(time::sleep_until(until)));
        if sleep.deadline() > until {
            sleep.as_mut().reset(until);
        }
        loop {
            ready!(sleep.as_mut().poll(cx));
            if sleep.deadline() >= until {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(until);
        }
    }
}
