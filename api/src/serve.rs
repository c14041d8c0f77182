//! Connections from clients: accepted, given a slot, served by hyper, and closed in order.

mod connection_limit;
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
use self::io_timeout::{Activity, TimedStream};
use crate::App;
use crate::edge::{self, Arrival};
use crate::routes::Routes;

/// The buffer of a request's head, and of answers. Above [`io_timeout`]'s limit, which is hit first.
const BUFFER_BYTES: usize = 64 * 1024;
/// What the kernel keeps of an answer beyond what the client's side has room for. So 2048 answers that
/// nobody reads fit into half of a small container. A small send buffer would limit what is on its way
/// as well, and wait for each delayed acknowledgement.
const UNSENT_BYTES: u32 = 64 * 1024;
/// The pause after a connection could not be accepted: most often file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long a connection is read after the last answer: one that is closed with something unread on
/// it is reset, and the answer may be lost with it.
const LINGER: Duration = Duration::from_secs(1);
/// How long a connection that is new when the program ends may take to ask.
const LAST_REQUEST_TIMEOUT: Duration = Duration::from_secs(1);
/// The connections that the system accepts on its own while we are busy: what comes when a balancer
/// opens all of its own at once. The system may allow fewer; more than there are wait for a second.
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
        format!("could not listen on `{address}`; is another program there, or may this user not?")
    })
}

/// Accepts connections on one address.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) app: App,
    pub(crate) routes: Routes,
    pub(crate) limit: Arc<ConnectionLimit>,
    /// Each connection is one of these, and ends once the request that is on it has been answered.
    pub(crate) tasks: Tasks,
}

impl Server {
    /// Accepts connections until told to stop. Those that the system has accepted by then are served.
    pub(crate) async fn accept(self, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                // What has been accepted is served, also when the program ends meanwhile.
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
        let _open = edge::Counted::new(&self.app.metrics.http_connections, 1);
        let arrival = Arrival {
            peer: peer.ip(),
            is_spare: slot.is_reserved(),
        };
        let activity = Arc::new(Activity::default());
        let limit = slot.limit();
        let stream = TimedStream::new(stream, Arc::clone(&activity), limit, self.app.clone());
        let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
            activity.begin_request();
            let answer = edge::handle(&self.app, &self.routes, arrival, request.map(Body::new));
            let activity = &activity;
            async move {
                let answer = answer.await;
                activity.end_request();
                Ok::<_, Infallible>(answer)
            }
        });
        let mut connection = http1::Builder::new()
            .header_read_timeout(None)
            // A client that has said everything may close its side, and is answered all the same.
            .half_close(true)
            .keep_alive(!slot.is_reserved())
            .max_buf_size(BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let told = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = slot.evicted() => {}
            }
        };
        let mut ended = tokio::select! {
            biased;
            ended = &mut connection => Some(ended),
            () = told => None,
        };
        if ended.is_none() && stop.is_cancelled() && !activity.has_asked() {
            let asking = time::timeout(LAST_REQUEST_TIMEOUT, &mut connection);
            ended = asking.await.ok();
        }
        let ended = if let Some(ended) = ended {
            ended
        } else {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        };
        let (stream, refusal) = connection.into_parts().io.into_inner().into_parts();
        let refusal = match refusal {
            Some(problem) => Some(edge::refuse_early(&self.app, arrival, problem).await),
            None => None,
        };
        close(stream, refusal, &ended, slot.is_reserved()).await?;
        ended.map_err(io::Error::other)
    }
}

/// Closes a connection, after a last answer to what never became a request.
async fn close(
    mut stream: TcpStream,
    refusal: Option<Vec<u8>>,
    ended: &hyper::Result<()>,
    is_reserved: bool,
) -> io::Result<()> {
    let is_unreadable = |it: &hyper::Error| it.is_parse() || it.is_incomplete_message();
    if refusal.is_none() && ended.as_ref().is_err_and(|it| !is_unreadable(it)) {
        // An answer that was broken off must not look complete, as it would where its end is the
        // connection's.
        return stream.set_zero_linger();
    }
    let closing = async {
        if let Some(answer) = refusal {
            stream.write_all(&answer).await?;
        }
        stream.shutdown().await?;
        let mut unread = [0; 4096];
        while !is_reserved && stream.read(&mut unread).await? > 0 {}
        Ok(())
    };
    time::timeout(LINGER, closing).await.unwrap_or(Ok(()))
}
