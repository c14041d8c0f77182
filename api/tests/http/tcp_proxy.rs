//! TCP proxy between the program and its server, which cuts connections and delays bytes.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

pub(crate) struct TcpProxy {
    pub(crate) port: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Whether bytes from clients are held back, also after they disconnect.
    holds: Mutex<bool>,
    released: Condvar,
    clients: Mutex<Vec<TcpStream>>,
}

impl TcpProxy {
    pub(crate) fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port().to_string();
        let state = Arc::<State>::default();
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else {
                    continue;
                };
                shared.carry(&client, &server);
            }
        });
        Self { port, state }
    }

    /// Closes every connection of the clients. Sent bytes still reach the server.
    pub(crate) fn cut(&self) {
        for client in self.state.clients.lock().unwrap().drain(..) {
            client.shutdown(Shutdown::Both).ok();
        }
    }

    /// Holds back bytes from clients from now on.
    pub(crate) fn hold(&self) {
        *self.state.holds.lock().unwrap() = true;
    }

    /// Forwards held and new bytes.
    pub(crate) fn release(&self) {
        *self.state.holds.lock().unwrap() = false;
        self.state.released.notify_all();
    }
}

impl State {
    fn carry(self: &Arc<Self>, client: &TcpStream, server: &TcpStream) {
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let clone = |stream: &TcpStream| stream.try_clone().unwrap();
        self.clients.lock().unwrap().push(clone(client));
        let (state, from, to) = (Arc::clone(self), clone(client), clone(server));
        thread::spawn(move || {
            copy(from, to, || {
                let holds = state.holds.lock().unwrap();
                drop(state.released.wait_while(holds, |holds| *holds).unwrap());
            });
        });
        let (from, to) = (clone(server), clone(client));
        thread::spawn(move || copy(from, to, || ()));
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, mut before: impl FnMut()) {
    let mut bytes = [0; 16384];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        before();
        if to.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    to.shutdown(Shutdown::Write).ok();
}
