//! Locations of a backup's tablespaces: only those that the operator has named.
//!
//! A manifest comes from a bucket, and any principal with write access can encrypt one for the recipients,
//! because their keys are public. The locations in it serve as names for a mapping, and are never
//! written to.

use std::path::{Path, PathBuf};

use causeway_core::backup::Manifest;
use causeway_core::backup::manifest::Tablespace;

use crate::error::Error;
use crate::restore::request::RestoreRequest;
use crate::restore::target_directories;

/// Tablespace and the directory that it is restored into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlacedTablespace {
    /// Name of its link, below the data directory.
    pub(crate) link: String,
    /// Target of the link.
    pub(crate) directory: PathBuf,
}

/// Returns the location of each tablespace of `manifest`.
///
/// # Errors
///
/// [`Error::Refused`] if a tablespace has no location, a mapping matches none, or two overlap.
pub(crate) fn place_tablespaces(
    request: &RestoreRequest,
    manifest: &Manifest,
) -> Result<Vec<PlacedTablespace>, Error> {
    let all = &manifest.tablespaces;
    for (old, _) in &request.tablespaces {
        if !all
            .iter()
            .any(|tablespace| Path::new(&tablespace.location) == old)
        {
            return Err(Error::Refused(format!(
                "`--tablespace-mapping`: the backup has no tablespace in `{}`; {}",
                old.display(),
                format_list(all)
            )));
        }
    }
    let mut taken = Vec::new();
    target_directories::take(&mut taken, &request.directory)?;
    let mut placed = Vec::new();
    let mut homeless = Vec::new();
    for tablespace in all {
        let Some(directory) = directory(request, tablespace) else {
            homeless.push(tablespace);
            continue;
        };
        target_directories::take(&mut taken, &directory)?;
        placed.push(PlacedTablespace {
            link: format!("pg_tblspc/{}", tablespace.oid),
            directory,
        });
    }
    if homeless.is_empty() {
        return Ok(placed);
    }
    let flags = homeless.iter().map(|tablespace| {
        let quoted = tablespace.location.replace('\'', r"'\''");
        format!(" --tablespace-mapping '{quoted}=NEW'")
    });
    Err(Error::Refused(format!(
        "the backup has tablespaces outside of the data directory: set the location of each with{} or \
         `--tablespace-directory DIR` for all; OLD=OLD keeps the location",
        flags.collect::<String>()
    )))
}

fn directory(request: &RestoreRequest, tablespace: &Tablespace) -> Option<PathBuf> {
    let was = Path::new(&tablespace.location);
    let mapped = request.tablespaces.iter().find(|(old, _)| old == was);
    let below = request.tablespace_directory.as_ref();
    mapped
        .map(|(_, new)| new.clone())
        .or_else(|| below.map(|directory| directory.join(tablespace.oid.to_string())))
}

fn format_list(all: &[Tablespace]) -> String {
    if all.is_empty() {
        return "it has none outside of the data directory".to_owned();
    }
    let names: Vec<_> = all
        .iter()
        .map(|tablespace| format!("`{}`", tablespace.location))
        .collect();
    format!("it has {}", names.join(", "))
}
