//! A deployment restarts one instance after the other behind a load balancer, without a failed
//! request.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::balancer::Balancer;
use crate::postgres::{Server, eventually, free_address};
use crate::program::Program;

const REQUESTS: usize = 10_000;
/// Minimum number of requests between two events.
const STEP: usize = 1_000;
const CLIENTS: usize = 8;
/// Many times what the load balancer takes to notice that an instance is draining.
const SHUTDOWN_DELAY: &str = "3s";
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
/// ID of the stored user.
const ID: &str = "\"id\":";

/// State shared by the clients.
#[derive(Default)]
struct Load {
    sent: AtomicUsize,
    names: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
    over: AtomicBool,
}

/// Ends the load, also when a test fails.
struct UntilHere<'a>(&'a Load);

/// One connection to the load balancer, for as long as it keeps it.
struct Client {
    address: SocketAddr,
    connection: Option<BufReader<TcpStream>>,
}

#[test]
fn rolling_restart_then_no_failure_no_lost_or_duplicate_row() {
    let server = Server::primary();
    // Addresses that are no source of connections, so that no port is taken while an instance is
    // down.
    let addresses =
        [2, 3].map(|number| SocketAddr::from(([127, 0, 0, number], free_address().port())));
    let mut instances = addresses.map(|address| start(&server, address));
    let mut balancer = Balancer::before(&addresses);
    let load = Load::default();

    thread::scope(|scope| {
        let _until_here = UntilHere(&load);
        for number in 0..CLIENTS {
            let (load, address) = (&load, balancer.address);
            scope.spawn(move || load.send_all(number, address));
        }
        for (instance, address) in instances.iter_mut().zip(addresses) {
            load.wait_for_another(STEP);
            assert!(hello_requests(instance) > 0.0, "it was not used");
            instance.signal(Signal::SIGTERM);
            assert_eq!(instance.wait().code(), Some(0));
            load.wait_for_another(STEP);
            *instance = start(&server, address);
            balancer.wait_until_used(address);
        }
        load.wait_for_another(STEP);
        eventually("enough requests", || load.sent() >= REQUESTS);
    });

    assert_eq!(*load.failures.lock().unwrap(), Vec::<String>::new());
    for instance in &instances {
        assert!(hello_requests(instance) > 0.0, "it was not used again");
    }
    let mut names = load.names.into_inner().unwrap();
    names.sort();
    for column in [
        "username FROM hello_users",
        "name FROM members",
        "name FROM users",
        "name FROM beers",
    ] {
        let stored = server.sql(&format!("SELECT {column}"));
        let mut stored: Vec<&str> = stored.lines().collect();
        stored.sort_unstable();
        assert!(stored == names, "{column}: other rows than were sent");
    }
}

fn start(server: &Server, address: SocketAddr) -> Program {
    let listen = address.to_string();
    let settings = [
        ("LISTEN", listen.as_str()),
        ("SHUTDOWN_DELAY", SHUTDOWN_DELAY),
    ];
    Program::before(&[server], &settings)
}

/// Returns the number of birthdays that an instance has stored since its start.
fn hello_requests(instance: &Program) -> f64 {
    let series = "http_requests_total{method=\"PUT\",route=\"/hello/{username}\",status=\"204\"} ";
    instance.metric(series).unwrap_or_default()
}

impl Load {
    fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    fn wait_for_another(&self, requests: usize) {
        let before = self.sent();
        eventually("more requests are sent", || {
            self.sent() >= before + requests
        });
    }

    /// Stores and reads one name after the other until the load ends.
    fn send_all(&self, client_number: usize, balancer: SocketAddr) {
        let mut client = Client {
            address: balancer,
            connection: None,
        };
        for number in 0.. {
            if self.over.load(Ordering::Relaxed) {
                return;
            }
            let name = format!("{}x{}", letters(client_number), letters(number));
            self.store_and_read(&mut client, &name);
            self.names.lock().unwrap().push(name);
        }
    }

    fn store_and_read(&self, client: &mut Client, name: &str) {
        let greeted = format!("/hello/{name}");
        let born = "{\"dateOfBirth\":\"1990-06-15\"}";
        self.send(client, "PUT", &greeted, born, 204, "");
        self.send(client, "GET", &greeted, "", 200, name);
        let member = format!("{{\"name\":\"{name}\",\"age\":30}}");
        self.send(client, "POST", "/members", &member, 200, name);
        let beer = format!("{{\"name\":\"{name}\"}}");
        self.send(client, "POST", "/beers", &beer, 201, name);
        let user = format!("{{\"name\":\"{name}\",\"email\":\"{name}@example.org\"}}");
        let stored = self.send(client, "POST", "/users", &user, 200, name);
        let id: String = stored
            .split_once(ID)
            .map(|(_, rest)| rest.chars().take_while(char::is_ascii_digit).collect())
            .unwrap_or_default();
        self.send(client, "GET", &format!("/users/{id}"), "", 200, name);
    }

    /// Sends a request once. Another status or text than expected is a failure.
    fn send(
        &self,
        client: &mut Client,
        method: &str,
        target: &str,
        body: &str,
        expected: u16,
        text: &str,
    ) -> String {
        let answer = client.send(method, target, body);
        self.sent.fetch_add(1, Ordering::Relaxed);
        match answer {
            Ok((status, body)) if status == expected && body.contains(text) => body,
            other => {
                let failure = format!("{method} {target}: {other:?}");
                self.failures.lock().unwrap().push(failure);
                client.connection = None;
                String::new()
            }
        }
    }
}

impl Drop for UntilHere<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

impl Client {
    fn send(&mut self, method: &str, target: &str, body: &str) -> io::Result<(u16, String)> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => BufReader::new(TcpStream::connect(self.address)?),
        };
        let stream = connection.get_mut();
        stream.set_read_timeout(Some(CLIENT_PATIENCE))?;
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nHost: api\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes())?;

        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if connection.read_line(&mut head)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let head = head.to_ascii_lowercase();
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.map_or("", str::trim)
        };
        let mut body = vec![0; header("content-length:").parse().unwrap_or(0)];
        connection.read_exact(&mut body)?;
        if header("connection:") != "close" {
            self.connection = Some(connection);
        }
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.ok_or(io::ErrorKind::InvalidData)?;
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// Encodes a number as a name without digits.
fn letters(number: usize) -> String {
    let letter = |digit: char| char::from(b'a' + u8::try_from(digit).unwrap() - b'0');
    number.to_string().chars().map(letter).collect()
}
