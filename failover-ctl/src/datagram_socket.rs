//! Unix datagram socket whose file may be removed while it is in use.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

/// Socket, and the file by which clients find it.
#[derive(Debug)]
pub(crate) struct DatagramSocket {
    socket: UnixDatagram,
    path: PathBuf,
    file: (u64, u64),
}

impl DatagramSocket {
    /// Binds a socket to `path`, replacing an earlier one. Creates the directory if it is missing.
    ///
    /// # Errors
    ///
    /// When the file cannot be created.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let socket = UnixDatagram::bind(path)?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            file: identity(path)?,
        })
    }

    /// Returns whether the file still belongs to this socket.
    pub(crate) fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|file| file == self.file)
    }
}

impl AsRef<UnixDatagram> for DatagramSocket {
    fn as_ref(&self) -> &UnixDatagram {
        &self.socket
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let file = fs::symlink_metadata(path)?;
    Ok((file.dev(), file.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_removed_or_replaced_then_no_longer_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made").join("own.sock");
        let own = DatagramSocket::bind(&path).unwrap();
        assert!(own.is_there());

        let other = DatagramSocket::bind(&path).unwrap();
        assert!(other.is_there() && !own.is_there());

        fs::remove_dir_all(path.parent().unwrap()).unwrap();
        assert!(!other.is_there());
    }
}
