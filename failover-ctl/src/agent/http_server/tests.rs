//! The limits, with real sockets. Loopback has many addresses, so one client can be several.

use std::net::{Ipv4Addr, SocketAddr};

use axum::routing::get;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;

use super::*;

const ASK: &[u8] = b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n";

/// A server within `limits`, that ends with the test.
struct Server {
    at: SocketAddr,
    evicted: IntCounter,
    tasks: Tasks,
}

impl Server {
    async fn start(limits: ConnectionLimits) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let evicted = IntCounter::new("evicted", "evicted").unwrap();
        let tasks = Tasks::new();
        let big = "x".repeat(8 << 20);
        let routes = Router::new()
            .route("/ping", get(|| async { "pong" }))
            .route("/big", get(|| async move { big }));
        let (counter, of) = (evicted.clone(), tasks.clone());
        tasks.start("serve", |stop| {
            serve(listener, routes, limits, counter, of, stop)
        });
        Self { at, evicted, tasks }
    }

    /// Connects from one of loopback's addresses.
    async fn connect(&self, from: u8) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        let from = SocketAddr::from(([127, 0, 0, from], 0));
        socket.bind(from).unwrap();
        socket.connect(self.at).await.unwrap()
    }

    async fn asks(&self, from: u8) -> String {
        let mut stream = self.connect(from).await;
        stream.write_all(ASK).await.unwrap();
        answer(&mut stream).await
    }
}

/// Reads what comes first; empty when the connection was closed instead.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 512];
    let read = time::timeout(Duration::from_mins(1), stream.read(&mut bytes)).await;
    let read = read.expect("neither an answer nor an end").unwrap_or(0);
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

fn limits(
    connections: usize,
    connections_per_address: usize,
    idle_timeout: Duration,
) -> ConnectionLimits {
    ConnectionLimits {
        connections,
        connections_per_address,
        idle_timeout,
    }
}

const LONG: Duration = Duration::from_mins(10);

#[tokio::test]
async fn one_address_floods_then_others_answered() {
    let server = Server::start(limits(8, 4, LONG)).await;
    let mut flood = Vec::new();
    for _ in 0..40 {
        flood.push(server.connect(2).await);
    }
    // They hold what they have, and send half a request each.
    for stream in &mut flood {
        stream.write_all(b"GET /ping HT").await.ok();
    }
    assert!(server.asks(3).await.ends_with("pong"));
    assert!(
        server.asks(2).await.ends_with("pong"),
        "not even its own new connection"
    );
    assert!(server.evicted.get() >= 36, "{}", server.evicted.get());
    server.tasks.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn many_addresses_flood_then_new_connection_answered() {
    let server = Server::start(limits(8, 4, LONG)).await;
    let mut flood = Vec::new();
    for from in 10..40 {
        flood.push(server.connect(from).await);
        flood.push(server.connect(from).await);
    }
    assert!(server.asks(3).await.ends_with("pong"));
    server.tasks.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn incomplete_request_then_connection_closed() {
    let server = Server::start(limits(8, 4, Duration::from_millis(300))).await;
    let mut silent = server.connect(2).await;
    let mut slow = server.connect(2).await;
    slow.write_all(b"GET /ping HTTP/1.1\r\nx: ").await.unwrap();
    assert!(!answer(&mut silent).await.contains("pong"));
    assert!(!answer(&mut slow).await.contains("pong"));
    server.tasks.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn unread_response_then_connection_closed() {
    let server = Server::start(limits(8, 4, Duration::from_millis(300))).await;
    let mut stream = server.connect(2).await;
    stream
        .write_all(b"GET /big HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .unwrap();
    // Nothing is read until the server has given up: then what is left of the answer is missing.
    time::sleep(Duration::from_secs(2)).await;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.ok();
    assert!(bytes.len() < 8 << 20, "{} bytes came", bytes.len());
    server.tasks.stop(Duration::from_secs(5)).await;
}

#[tokio::test]
async fn head_too_large_then_refused() {
    let server = Server::start(limits(8, 4, LONG)).await;
    let mut stream = server.connect(2).await;
    let head = format!("GET /ping HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(64 << 10));
    stream.write_all(head.as_bytes()).await.ok();
    let answer = answer(&mut stream).await;
    assert!(!answer.contains("pong"), "{answer}");
    server.tasks.stop(Duration::from_secs(5)).await;
}

#[test]
fn authenticated_request_then_not_evicted() {
    let entry = |last: u8, protected| ConnectionEntry {
        address: IpAddr::from([127, 0, 0, last]),
        idle_since: Instant::now(),
        protected,
        close: CancellationToken::new(),
    };
    let limits = limits(3, 3, LONG);
    let mut entries = BTreeMap::from([(1, entry(2, true)), (2, entry(2, false))]);
    assert_eq!(
        decide_admission(&entries, IpAddr::from([127, 0, 0, 3]), limits),
        Admission::Free
    );
    entries.insert(3, entry(4, false));
    assert_eq!(
        decide_admission(&entries, IpAddr::from([127, 0, 0, 3]), limits),
        Admission::Evict(2)
    );
    let all = BTreeMap::from([1, 2, 3].map(|number| (number, entry(2, true))));
    assert_eq!(
        decide_admission(&all, IpAddr::from([127, 0, 0, 2]), limits),
        Admission::None
    );
}
