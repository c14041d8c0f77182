//! Directory of a lab: created empty, and removed only when the lab created it.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::cluster::disks;
use crate::cluster::files::restrict;
use crate::cluster::program::postgres_user;
use crate::cluster::topology::Topology;

/// Marker file of a lab's directory, which allows its removal.
const MARKER: &str = ".causeway-lab";

/// Creates the lab's directory, and removes what an earlier lab with this number left in it.
pub(crate) fn prepare(topology: &Topology) -> anyhow::Result<()> {
    let directory = topology.directory();
    remove(directory)?;
    fs::create_dir_all(directory)
        .with_context(|| format!("could not create `{}`", directory.display()))?;
    restrict(directory, 0o755)?;
    reachable_by_postgres(directory)?;
    fs::write(directory.join(MARKER), topology.number().to_string())?;
    fs::create_dir_all(topology.logs())?;
    Ok(())
}

/// Removes a lab's directory, and no directory without the marker.
pub(crate) fn remove(directory: &Path) -> anyhow::Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    let is_empty = fs::read_dir(directory)?.next().is_none();
    if !is_empty && !directory.join(MARKER).exists() {
        bail!(
            "`{}` is not a lab's directory and is not empty: name another with `--directory`",
            directory.display()
        );
    }
    disks::detach(directory)?;
    fs::remove_dir_all(directory)
        .with_context(|| format!("could not remove `{}`", directory.display()))
}

fn reachable_by_postgres(directory: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;

    if postgres_user()?.is_none() {
        return Ok(());
    }
    for above in directory.canonicalize()?.ancestors() {
        if fs::metadata(above)?.permissions().mode() & 0o001 == 0 {
            bail!(
                "the user `postgres` may not enter `{}`: name another directory with `--directory`",
                above.display()
            );
        }
    }
    Ok(())
}
