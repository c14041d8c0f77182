//! `backup-agent keygen`.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;

use crate::cli;
use crate::encryption::keys::generate_key_pair;
use crate::error::Error;
use crate::output;

pub(super) fn run(args: &cli::KeygenArgs) -> Result<(), Error> {
    let pair = generate_key_pair();
    let path = &args.output;
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = made.map_err(|error| {
        if error.kind() == ErrorKind::AlreadyExists {
            return Error::Exists { path: path.clone() };
        }
        Error::io("write", path)(error)
    })?;
    let written = file
        .write_all(pair.identity_file.reveal().as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(Error::io("write", path))?;
    output::line(&pair.recipient);
    Ok(())
}
