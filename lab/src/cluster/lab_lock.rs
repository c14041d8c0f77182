//! Lock on a lab's number: one lab per number, on free addresses.

use std::fs::File;
use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::Context as _;

use crate::cluster::topology::Topology;

/// Exclusive lock on a lab's number, released when dropped.
#[derive(Debug)]
pub struct LabLock {
    /// Topology of the locked number.
    pub topology: Topology,
    _lock: File,
}

impl LabLock {
    /// Locks a lab's number.
    ///
    /// # Errors
    ///
    /// When another lab holds it, or one of its addresses is in use.
    pub fn acquire(topology: Topology) -> anyhow::Result<Self> {
        let number = topology.number();
        let path = PathBuf::from(format!("/tmp/causeway-lab-{number}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("could not open `{}`", path.display()))?;
        file.try_lock().with_context(|| {
            format!(
                "lab {number} is already up: stop it with `lab down`, or use another `--number`"
            )
        })?;
        for address in topology.addresses() {
            drop(TcpListener::bind(address).with_context(|| {
                format!(
                    "`{address}`, which lab {number} needs, is in use: stop its program, or use another `--number`"
                )
            })?);
        }
        Ok(Self {
            topology,
            _lock: file,
        })
    }

    /// Locks the first free number, with its default directory.
    ///
    /// # Errors
    ///
    /// When no number is free.
    pub fn acquire_any() -> anyhow::Result<Self> {
        let mut why = None;
        for number in 1..=250 {
            match Self::acquire(Topology::new(number, None)?) {
                Ok(claim) => return Ok(claim),
                Err(error) => why = Some(error),
            }
        }
        Err(why.unwrap_or_else(|| anyhow::anyhow!("there are no labs to claim")))
            .context("all lab numbers from 1 to 250 are in use")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_locked_then_second_lock_rejected() {
        let claim = LabLock::acquire_any().unwrap();
        let again = LabLock::acquire(claim.topology.clone()).unwrap_err();

        assert!(again.to_string().contains("is already up"), "{again}");
    }
}
