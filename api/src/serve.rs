//! Connections from clients: accepted, given a slot, served by hyper, and closed.

mod connection_limit;
mod connection_state;
mod io_timeout;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use causeway_runtime::shutdown::Tasks;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use self::connection_limit::ConnectionSlot;
pub(crate) use self::connection_limit::{ConnectionLimit, max_connections};
use self::connection_state::ConnectionState;
use self::io_timeout::TimedStream;
use crate::answer_memory::AnswerMemory;
use crate::app::router::AppRouter;
use crate::metrics::{GaugeGuard, Metrics};
use crate::middleware::Middleware;
use crate::middleware::request_context::PeerInfo;

/// The buffer of a request's head, and of answers. Above [`io_timeout`]'s limit, which is hit first.
const BUFFER_BYTES: usize = 64 * 1024;
/// Bytes of an answer that the kernel buffers beyond the client's receive window. 2048 answers that are
/// not read fit into half of a small container. A small send buffer would limit the bytes in flight as
/// well, and wait for each delayed acknowledgement.
const UNSENT_BYTES: u32 = 64 * 1024;
/// The pause after a connection could not be accepted: most often file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Time for which a connection is read after the last answer: closing it with unread bytes resets it, and
/// the answer may be lost.
const LINGER: Duration = Duration::from_secs(1);
/// Time within which a connection that is new at shutdown sends its request.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections that the kernel accepts for a busy program: a load balancer may open all of its own at
/// once. The kernel may allow fewer; further ones retry after a second.
const BACKLOG: u32 = 4096;

/// Listens on one address.
pub(crate) fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }?;
        socket.set_reuseaddr(true)?;
        SockRef::from(&socket).set_tcp_notsent_lowat(UNSENT_BYTES)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    listen().with_context(|| {
        format!("could not listen on `{address}`; stop the program that uses it, or allow this user to bind it")
    })
}

/// Accepts connections on one address.
#[derive(Clone)]
pub(crate) struct HttpServer {
    pub(crate) middleware: Arc<Middleware>,
    pub(crate) router: AppRouter,
    pub(crate) answer_memory: Arc<AnswerMemory>,
    pub(crate) metrics: Metrics,
    pub(crate) limit: Arc<ConnectionLimit>,
    /// Each connection is one of these, and ends once its request has been answered.
    pub(crate) tasks: Tasks,
}

impl HttpServer {
    /// Accepts connections until `stop`. Those that the kernel has accepted by then are served.
    pub(crate) async fn accept(self, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                // An accepted connection is served, also if the program stops meanwhile.
                Ok((stream, peer)) => self.start(stream, peer, self.limit.acquire().await),
                Err(error) => {
                    warn!(%error, "connection not accepted");
                    time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        let Ok(listener) = listener.into_std() else {
            return;
        };
        while let Ok((stream, peer)) = listener.accept() {
            let stream = stream.set_nonblocking(true).map(|()| stream);
            if let Ok(stream) = stream.and_then(TcpStream::from_std) {
                self.start(stream, peer, self.limit.acquire().await);
            }
        }
    }

    fn start(&self, stream: TcpStream, peer: SocketAddr, slot: ConnectionSlot) {
        let server = self.clone();
        self.tasks.start("http connection", |stop| async move {
            if let Err(error) = server.serve(stream, peer, slot, stop).await {
                debug!(%error, "http connection ended");
            }
        });
    }

    async fn serve(
        self,
        stream: TcpStream,
        peer: SocketAddr,
        slot: ConnectionSlot,
        stop: CancellationToken,
    ) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let _open = GaugeGuard::add(&self.metrics.http_connections, 1);
        let peer = PeerInfo {
            address: peer.ip(),
            is_reserved: slot.is_reserved,
        };
        let state = Arc::new(ConnectionState::default());
        let answer_memory = Arc::clone(&self.answer_memory);
        let stream = TimedStream::new(stream, Arc::clone(&state), slot.limit(), answer_memory);
        let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
            state.begin_request();
            let request = request.map(Body::new);
            let answer = self.middleware.handle(&self.router, peer, request);
            let state = &state;
            async move {
                let answer = answer.await;
                state.end_request();
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = http1::Builder::new()
            .header_read_timeout(None)
            // A client may close its side after the request, and is answered all the same.
            .half_close(true)
            .keep_alive(!slot.is_reserved)
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let stopped = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = slot.evicted() => {}
            }
        };
        let mut ended = tokio::select! {
            biased;
            ended = &mut connection => Some(ended),
            () = stopped => None,
        };
        if ended.is_none() && stop.is_cancelled() && state.requests() == 0 {
            let asking = time::timeout(LAST_REQUEST_TIMEOUT, &mut connection);
            ended = asking.await.ok();
        }
        let ended = if let Some(ended) = ended {
            ended
        } else {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        };
        let (stream, rejection) = connection.into_parts().io.into_inner().into_parts();
        let early_response = match rejection {
            Some(problem) => Some(self.middleware.early_response(peer, problem).await),
            None => None,
        };
        close(stream, early_response, &ended, slot.is_reserved).await?;
        ended.map_err(io::Error::other)
    }
}

/// Closes a connection, after the answer to a head that could not be read.
async fn close(
    mut stream: TcpStream,
    early_response: Option<Vec<u8>>,
    ended: &hyper::Result<()>,
    is_reserved: bool,
) -> io::Result<()> {
    let is_unreadable = |error: &hyper::Error| error.is_parse() || error.is_incomplete_message();
    if early_response.is_none() && ended.as_ref().is_err_and(|error| !is_unreadable(error)) {
        // An aborted answer must not look complete, as it would where the end of the connection is its
        // end.
        return stream.set_zero_linger();
    }
    let closing = async {
        if let Some(answer) = early_response {
            stream.write_all(&answer).await?;
        }
        stream.shutdown().await?;
        let mut unread = [0; 4096];
        while !is_reserved && stream.read(&mut unread).await? > 0 {}
        Ok(())
    };
    time::timeout(LINGER, closing).await.unwrap_or(Ok(()))
}
