//! Connections from clients: accepted here, given a time for each request's head, and ended in peace.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use ha_runtime::shutdown::Tasks;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{self, Instant, Sleep};
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::{debug, warn};

use crate::edge::Arrival;

/// How long the head of a request may take, from its first byte.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may wait for its next request: longer than the 60 s of a load balancer,
/// which would otherwise send a request into a connection that is being closed.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// Above our own limits, so that a request slightly too large is still told why.
const MOST_HEADERS: usize = 256;
const LONGEST_HEAD_BYTES: usize = 64 * 1024;
/// The pause after a connection could not be accepted: most often file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections until told to stop. Each is a task of `tasks`, and ends once the request that
/// is on it then has been answered.
pub(crate) async fn accept(
    listener: TcpListener,
    router: Router,
    tasks: Tasks,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let arrival = Arrival { peer: peer.ip() };
                let router = router.clone();
                tasks.start("http connection", |stop| {
                    converse(stream, arrival, router, stop)
                });
            }
            Err(error) => {
                warn!(%error, "a connection could not be accepted");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, arrival: Arrival, router: Router, stop: CancellationToken) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "a connection ended before it began");
        return;
    }
    let working = Arc::new(AtomicBool::new(false));
    let io = TokioIo::new(Patient::new(stream, Arc::clone(&working)));
    let service = hyper::service::service_fn(move |request: hyper::Request<Incoming>| {
        working.store(true, Ordering::Relaxed);
        let working = Arc::clone(&working);
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(arrival);
        let answering = router.clone().call(request);
        async move {
            let answer = answering.await;
            working.store(false, Ordering::Relaxed);
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Whoever has said everything may close that side, and is answered all the same.
        .half_close(true)
        .header_read_timeout(IDLE_TIMEOUT)
        .max_headers(MOST_HEADERS)
        .max_buf_size(LONGEST_HEAD_BYTES)
        .serve_connection(io, service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "http connection ended");
    }
}

/// A connection that is patient between requests, and less so within the head of one. hyper has one
/// time for both.
struct Patient {
    stream: TcpStream,
    /// Whether a request is being worked on; its body has a time of its own.
    working: Arc<AtomicBool>,
    /// Whether bytes have come since the last request was answered.
    within_head: bool,
    patience: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: TcpStream, working: Arc<AtomicBool>) -> Self {
        Self {
            stream,
            working,
            within_head: false,
            patience: None,
        }
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.working.load(Ordering::Relaxed) {
            this.within_head = false;
            this.patience = None;
        }
        let filled = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.stream).poll_read(cx, buffer) {
            let is_new = buffer.filled().len() > filled;
            this.within_head |= is_new && !this.working.load(Ordering::Relaxed);
            return Poll::Ready(read);
        }
        if !this.within_head {
            return Poll::Pending;
        }
        let new = || Box::pin(time::sleep_until(Instant::now() + HEAD_TIMEOUT));
        ready!(this.patience.get_or_insert_with(new).as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
