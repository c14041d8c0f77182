//! Check that the WAL volume is mounted: an empty mount point must not count as proof that nothing diverged.

use std::fs;
use std::path::Path;

use anyhow::bail;

use crate::data_directory;
use crate::data_directory::wal::position;

/// Checks that `pg_wal` exists and has the WAL of the last checkpoint, as every data directory does.
///
/// # Errors
///
/// When it does not, with the remedy. A directory without a database passes.
pub(super) fn check(data: &Path) -> anyhow::Result<()> {
    let log = data.join("pg_wal");
    let is_a_server = data.join("PG_VERSION").exists() || data.join("global").exists();
    if !log.exists() {
        let is_linked = fs::symlink_metadata(&log).is_ok();
        if is_a_server || is_linked {
            bail!(
                "`{}` is not there: mount its volume, or empty the data directory once you know that its WAL is not \
                 needed",
                log.display()
            );
        }
        return Ok(());
    }
    // Without a control file, only the WAL shows the content.
    let Ok(control) = data_directory::read_control_file(data) else {
        return Ok(());
    };
    if !position::contains_page(&log, control.checkpoint)? {
        bail!(
            "`{}` lacks the WAL of the last checkpoint, at {}: mount its volume or put the files back, or empty the \
             data directory once you know that its WAL is not needed",
            log.display(),
            control.checkpoint
        );
    }
    Ok(())
}
