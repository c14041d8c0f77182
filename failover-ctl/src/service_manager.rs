//! Notification protocol of systemd (`sd_notify(3)`) over a nonblocking socket.
//!
//! Libraries block when systemd does not read, and the guard must never block.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use anyhow::Context as _;

/// Variable with the address of the service manager. PostgreSQL does not inherit it: it would notify too, as a
/// service of its own.
pub(crate) const SOCKET_VARIABLE: &str = "NOTIFY_SOCKET";

/// Socket of the service manager that supervises this process.
#[derive(Debug)]
pub(crate) struct ServiceManager {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl ServiceManager {
    /// Returns the service manager that `NOTIFY_SOCKET` names, if it is set.
    ///
    /// # Errors
    ///
    /// When the value is not an address, or no socket can be created.
    pub(crate) fn from_env() -> anyhow::Result<Option<Self>> {
        let address = std::env::var_os(SOCKET_VARIABLE).map(Self::at);
        address
            .transpose()
            .with_context(|| format!("could not use the address in `{SOCKET_VARIABLE}`"))
    }

    fn at(name: OsString) -> io::Result<Self> {
        let address = match name.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { socket, address })
    }

    /// Notifies that the start is complete.
    pub(crate) fn notify_ready(&self) -> io::Result<()> {
        self.send("READY=1")
    }

    /// Sets the time after which systemd kills the whole cgroup unless another message arrives.
    pub(crate) fn extend_watchdog(&self, limit: Duration) -> io::Result<()> {
        self.send(&format!("WATCHDOG=1\nWATCHDOG_USEC={}", limit.as_micros()))
    }

    /// Notifies that the process is stopping.
    pub(crate) fn notify_stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1")
    }

    fn send(&self, message: &str) -> io::Result<()> {
        self.socket
            .send_to_addr(message.as_bytes(), &self.address)
            .map(|_sent| ())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receiver_not_reading_then_send_fails_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let service_manager = ServiceManager::at(path.into()).unwrap();

        service_manager.notify_ready().unwrap();
        service_manager
            .extend_watchdog(Duration::from_millis(9_400))
            .unwrap();
        let mut buffer = [0; 100];
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"READY=1");
        let length = receiver.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], b"WATCHDOG=1\nWATCHDOG_USEC=9400000");

        // The queue fills because nothing is read.
        let full = (0..10_000)
            .find_map(|_| service_manager.notify_ready().err())
            .unwrap();
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    }
}
