//! A bucket in one region: a real S3 service on a loopback port, which can become unavailable.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use s3s_fs::FileSystem;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use crate::faults::{Faults, Services};

pub(crate) const ACCESS_KEY: &str = "AKIDLAB";
pub(crate) const SECRET_KEY: &str = "secret-of-the-lab";

/// A bucket and its service.
pub(crate) struct Store {
    pub(crate) bucket: String,
    pub(crate) address: SocketAddr,
    pub(crate) faults: Faults,
    root: PathBuf,
    running: JoinSet<()>,
    /// Bound and not listening: another test's bucket must not get the port of one that is stopped.
    _port: TcpSocket,
}

impl Store {
    pub(crate) fn start(root: &Path, bucket: &str) -> Self {
        fs::create_dir_all(root.join(bucket)).unwrap();
        let port = bind("127.0.0.1:0".parse().unwrap());
        let mut store = Self {
            bucket: bucket.to_owned(),
            address: port.local_addr().unwrap(),
            faults: Faults::default(),
            root: root.to_owned(),
            running: JoinSet::new(),
            _port: port,
        };
        store.serve(store.listen());
        store
    }

    fn serve(&mut self, listener: TcpListener) {
        let builder = || S3ServiceBuilder::new(FileSystem::new(&self.root).unwrap());
        let mut signed = builder();
        signed.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let services = Services {
            signed: signed.build(),
            unsigned: builder().build(),
        };
        self.running
            .spawn(accept(listener, services, self.faults.clone()));
    }

    /// Loses the region: connections are refused.
    pub(crate) async fn stop(&mut self) {
        self.running.shutdown().await;
    }

    /// Loses the region: connections are accepted, and no request is answered.
    pub(crate) async fn fall_silent(&mut self) {
        self.stop().await;
        let listener = self.listen();
        self.running.spawn(async move {
            let mut held = Vec::new();
            while let Ok((socket, _)) = listener.accept().await {
                held.push(socket);
            }
        });
    }

    pub(crate) async fn come_back(&mut self) {
        self.stop().await;
        let listener = self.listen();
        self.serve(listener);
    }

    fn listen(&self) -> TcpListener {
        bind(self.address).listen(64).unwrap()
    }

    /// Returns all objects, with their keys.
    pub(crate) fn objects(&self) -> Vec<(String, PathBuf)> {
        let top = self.root.join(&self.bucket);
        let mut objects: Vec<_> = files(&top)
            .into_iter()
            .map(|path| {
                let key = path
                    .strip_prefix(&top)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                (key, path)
            })
            .collect();
        objects.sort();
        objects
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.objects().into_iter().map(|(key, _)| key).collect()
    }

    /// Returns all files of the service, including the metadata beside the objects.
    pub(crate) fn everything(&self) -> Vec<PathBuf> {
        files(&self.root)
    }
}

async fn accept(listener: TcpListener, services: Services, faults: Faults) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        socket.set_nodelay(true).unwrap();
        let (services, faults) = (services.clone(), faults.clone());
        let service = service_fn(move |request| faults.clone().answer(services.clone(), request));
        connections.spawn(async move {
            let http = Builder::new(TokioExecutor::new());
            // A client that disconnects in the middle is part of the scenarios.
            drop(http.serve_connection(TokioIo::new(socket), service).await);
        });
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Returns a socket that shares its port with others of this kind. Those that do not listen get no connections.
fn bind(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}
