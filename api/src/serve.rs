//! Connections from clients: accepted here, given a place, and ended in peace.

mod descriptors;
mod places;
mod progress;
mod refusal;
mod wire;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use ha_runtime::shutdown::Tasks;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tower::Service as _;
use tracing::{debug, warn};

pub(crate) use self::descriptors::room_for;
use self::places::Place;
pub(crate) use self::places::Places;
use self::wire::{End, Wire};
use crate::App;
use crate::edge::Arrival;

/// Above our own limits, so that a request slightly too large is answered as a request.
const LONGEST_HEAD_BYTES: usize = 64 * 1024;
/// The pause after a connection could not be accepted: most often file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The connections that the system accepts on its own while we are busy: what comes when a balancer
/// opens all of its own at once. The system may allow fewer; more than there are wait for a second.
const BACKLOG: u32 = 4096;

/// Listens on one address.
///
/// # Errors
///
/// When the address is taken, or not ours to take.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections on one address.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) app: App,
    pub(crate) router: Router,
    pub(crate) places: Arc<Places>,
    /// Each connection is one of these, and ends once the request that is on it has been answered.
    pub(crate) tasks: Tasks,
}

impl Server {
    /// Accepts connections until told to stop. Those that the system has accepted by then are served.
    pub(crate) async fn accept(self, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepting = async {
                self.places.calm().await;
                listener.accept().await
            };
            let accepted = tokio::select! {
                accepted = accepting => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => self.welcome(stream, peer),
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
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
                self.welcome(stream, peer);
            }
        }
    }

    fn welcome(&self, stream: TcpStream, peer: SocketAddr) {
        let place = self.places.take();
        let arrival = Arrival {
            peer: peer.ip(),
            is_spare: place.as_ref().is_none_or(|it| it.progress().is_spare),
        };
        let Some(place) = place else {
            refusal::at_the_door(&self.app, &stream, arrival);
            return;
        };
        let server = self.clone();
        self.tasks.start("http connection", |stop| {
            server.converse(stream, arrival, place, stop)
        });
    }

    async fn converse(
        self,
        stream: TcpStream,
        arrival: Arrival,
        place: Place,
        stop: CancellationToken,
    ) {
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "a connection ended before it began");
            return;
        }
        let progress = place.progress();
        let mut wire = TokioIo::new(Wire::new(stream, Arc::clone(progress)));
        let service = hyper::service::service_fn(|request: hyper::Request<Incoming>| {
            progress.works();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(arrival);
            let answering = self.router.clone().call(request);
            async move {
                let answer = answering.await;
                progress.answers();
                answer
            }
        });
        let mut connection = http1::Builder::new()
            .header_read_timeout(None)
            // Whoever has said everything may close that side, and is answered all the same.
            .half_close(true)
            .max_buf_size(LONGEST_HEAD_BYTES)
            .serve_connection(&mut wire, service);
        let told = async {
            tokio::select! {
                () = stop.cancelled() => {}
                () = progress.unwanted() => {}
            }
        };
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = told => {
                progress.close_soon();
                (&mut connection).await
            }
        };
        let rest = connection.into_parts().read_buf;
        if let Err(error) = &ended {
            debug!(%error, "http connection ended");
        }
        self.part(wire.into_inner(), arrival, &ended, &rest).await;
    }

    /// Says what is left to say on a connection, and closes it.
    async fn part(
        &self,
        wire: Wire,
        arrival: Arrival,
        ended: &Result<(), hyper::Error>,
        rest: &[u8],
    ) {
        let (end, why) = (wire.end(), refusal::of(&wire, ended, rest));
        if wire.found_no_room() {
            self.app.metrics.http_connections_refused.inc();
        }
        let in_haste = wire.is_in_haste();
        let mut stream = wire.into_stream();
        match (why, end) {
            (Some(why), _) => refusal::send(&self.app, &mut stream, arrival, why).await,
            (None, Some(End::ByClient)) => return,
            (None, Some(End::Unread)) => {
                // What the client does not read need not be kept for it.
                stream.set_zero_linger().ok();
                return;
            }
            (None, Some(End::Idle | End::SlowHead) | None) => {}
        }
        if in_haste {
            refusal::hang_up(&stream);
        } else {
            refusal::hear_out(stream).await;
        }
    }
}
