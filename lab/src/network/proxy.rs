//! Proxy on one path between two hosts, which can be cut, made silent, or slowed.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use causeway_runtime::shutdown::Tasks;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time;
use tracing::debug;

/// State of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NetworkState {
    /// Forwards everything.
    #[default]
    Open,
    /// Closes every connection and rejects new ones, like a host without the program.
    Refused,
    /// Forwards nothing, like a network that drops packets. Data arrives once the path is open
    /// again, as TCP retransmits it.
    Unresponsive,
    /// Forwards everything with this delay, in milliseconds.
    Slow(u64),
}

/// Proxy from `listen` to `target`.
#[derive(Debug)]
pub struct Proxy {
    name: String,
    state: watch::Sender<NetworkState>,
}

impl Proxy {
    /// Starts the proxy as a task of `tasks`.
    ///
    /// # Errors
    ///
    /// When the address is in use.
    pub fn open(
        name: impl Into<String>,
        listen: SocketAddr,
        target: SocketAddr,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        let name = name.into();
        let listener = bind(listen)?;
        let (state, _) = watch::channel(NetworkState::Open);
        let relay = ProxyTask {
            name: name.clone(),
            listen,
            target,
            state: state.clone(),
            tasks: tasks.clone(),
        };
        tasks.start("link", |stop| async move {
            tokio::select! {
                () = relay.run(listener) => {}
                () = stop.cancelled() => {}
            }
        });
        Ok(Self { name, state })
    }

    /// Returns the name of the path, such as `b to a: replication`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the state.
    pub fn state(&self) -> NetworkState {
        *self.state.borrow()
    }

    /// Changes the state, for open connections too.
    pub fn set(&self, state: NetworkState) {
        self.state.send_replace(state);
    }
}

fn bind(listen: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen_on = || {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(listen)?;
        socket.listen(128)
    };
    listen_on().with_context(|| format!("could not listen on `{listen}`"))
}

struct ProxyTask {
    name: String,
    listen: SocketAddr,
    target: SocketAddr,
    state: watch::Sender<NetworkState>,
    tasks: Tasks,
}

impl ProxyTask {
    async fn run(self, listener: TcpListener) {
        let mut state = self.state.subscribe();
        let mut listener = Some(listener);
        loop {
            let now = *state.borrow_and_update();
            match (now, listener.take()) {
                (NetworkState::Refused, closing) => {
                    drop(closing);
                    if state.changed().await.is_err() {
                        return;
                    }
                }
                (NetworkState::Unresponsive, open) => {
                    listener = open;
                    if state.changed().await.is_err() {
                        return;
                    }
                }
                (NetworkState::Open | NetworkState::Slow(_), None) => match bind(self.listen) {
                    Ok(bound) => listener = Some(bound),
                    Err(error) => {
                        debug!(proxy = %self.name, %error, "proxy not listening yet");
                        time::sleep(Duration::from_millis(50)).await;
                    }
                },
                (NetworkState::Open | NetworkState::Slow(_), Some(open)) => {
                    tokio::select! {
                        accepted = open.accept() => {
                            if let Ok((stream, _)) = accepted {
                                self.start_forwarding(stream);
                            }
                        }
                        changed = state.changed() => {
                            if changed.is_err() {
                                return;
                            }
                        }
                    }
                    listener = Some(open);
                }
            }
        }
    }

    fn start_forwarding(&self, near: TcpStream) {
        let target = self.target;
        let there = self.state.subscribe();
        let back = self.state.subscribe();
        let mut cut = self.state.subscribe();
        self.tasks.start("link connection", |stop| async move {
            tokio::select! {
                _ = forward(near, target, there, back) => {}
                _ = cut.wait_for(|state| *state == NetworkState::Refused) => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// Forwards both directions until either side closes.
async fn forward(
    near: TcpStream,
    target: SocketAddr,
    there: watch::Receiver<NetworkState>,
    back: watch::Receiver<NetworkState>,
) -> std::io::Result<()> {
    let far = TcpStream::connect(target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    tokio::try_join!(
        forward_one_way(near_read, far_write, there),
        forward_one_way(far_read, near_write, back),
    )?;
    Ok(())
}

async fn forward_one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<NetworkState>,
) -> std::io::Result<()> {
    let mut piece = vec![0; 64 * 1024];
    loop {
        let length = from.read(&mut piece).await?;
        let open = state
            .wait_for(|state| *state != NetworkState::Unresponsive)
            .await;
        let delay = open.map(|state| *state);
        // Data in flight on a silent path is lost with its host.
        if matches!(delay, Ok(NetworkState::Refused)) {
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        if let Ok(NetworkState::Slow(millis)) = delay {
            time::sleep(Duration::from_millis(millis)).await;
        }
        match piece.get(..length) {
            Some([]) | None => return to.shutdown().await,
            Some(bytes) => to.write_all(bytes).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;

    #[tokio::test]
    async fn path_refused_then_closed_until_opened() {
        let path = path().await;
        let mut client = path.connect().await.unwrap();
        assert_eq!(echo(&mut client, b"one").await.unwrap(), b"one");

        path.proxy.set(NetworkState::Refused);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
        crate::wait::until("a refusal", Duration::from_secs(5), || async {
            match path.connect().await {
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();

        path.proxy.set(NetworkState::Open);
        crate::wait::until("an open path", Duration::from_secs(5), || async {
            let mut client = path.connect().await.map_err(|error| error.to_string())?;
            let heard = echo(&mut client, b"two").await;
            heard.map_err(|error| error.to_string())
        })
        .await
        .unwrap();
        path.tasks.stop(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn silent_path_refused_then_data_dropped() {
        let path = path().await;
        let mut client = path.connect().await.unwrap();
        assert_eq!(echo(&mut client, b"one").await.unwrap(), b"one");
        path.proxy.set(NetworkState::Unresponsive);
        client.write_all(b"two").await.unwrap();
        path.proxy.set(NetworkState::Refused);

        assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
        path.tasks.stop(Duration::from_secs(5)).await;
    }

    #[tokio::test]
    async fn silent_path_opened_then_data_delivered() {
        let path = path().await;
        let mut client = path.connect().await.unwrap();
        assert_eq!(echo(&mut client, b"one").await.unwrap(), b"one");

        path.proxy.set(NetworkState::Unresponsive);
        let silence = time::timeout(Duration::from_millis(200), echo(&mut client, b"two")).await;
        assert!(silence.is_err(), "{silence:?}");

        path.proxy.set(NetworkState::Open);
        let mut heard = [0; 3];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"two");
        path.tasks.stop(Duration::from_secs(5)).await;
    }

    struct Path {
        proxy: Proxy,
        listen: SocketAddr,
        tasks: Tasks,
    }

    impl Path {
        async fn connect(&self) -> std::io::Result<TcpStream> {
            TcpStream::connect(self.listen).await
        }
    }

    /// Proxy to an echo server.
    async fn path() -> Path {
        let tasks = Tasks::new();
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = server.local_addr().unwrap();
        let connections = tasks.clone();
        tasks.start("echo", |stop| async move {
            while let Some(Ok((mut stream, _))) = stop.run_until_cancelled(server.accept()).await {
                connections.start("echo connection", |stop| async move {
                    let (mut read, mut write) = stream.split();
                    let _ended = stop
                        .run_until_cancelled(tokio::io::copy(&mut read, &mut write))
                        .await;
                });
            }
        });
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = free.local_addr().unwrap();
        drop(free);
        let proxy = Proxy::open("client to server", listen, target, &tasks).unwrap();
        Path {
            proxy,
            listen,
            tasks,
        }
    }

    async fn echo(client: &mut TcpStream, text: &[u8]) -> std::io::Result<Vec<u8>> {
        client.write_all(text).await?;
        let mut heard = vec![0; text.len()];
        client.read_exact(&mut heard).await?;
        Ok(heard)
    }
}
