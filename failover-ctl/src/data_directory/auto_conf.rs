//! `postgresql.auto.conf`, written by `ALTER SYSTEM` and by restores. It overrides every other settings file.

use std::fs;
use std::io;
use std::path::Path;

use tracing::warn;

use crate::durable_file::write_private;

/// Removes the settings whose lower-case name `is_ours` accepts.
///
/// # Errors
///
/// When the file cannot be read or written. A missing file has no settings.
pub(crate) fn remove(data: &Path, is_ours: impl Fn(&str) -> bool) -> io::Result<()> {
    let path = data.join("postgresql.auto.conf");
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let Some(kept) = without(&text, is_ours) else {
        return Ok(());
    };
    write_private(&path, &kept).map_err(io::Error::other)?;
    warn!(path = %path.display(), "settings removed that override guard's configuration");
    Ok(())
}

/// Returns the text without these settings; none if it has none of them.
pub(super) fn without(text: &str, is_ours: impl Fn(&str) -> bool) -> Option<String> {
    let kept: Vec<&str> = text.lines().filter(|line| !is_ours(&name(line))).collect();
    (kept.len() < text.lines().count()).then(|| kept.join("\n") + "\n")
}

/// Returns the lower-case name of the setting in a line of a settings file.
pub(crate) fn name(line: &str) -> String {
    let name = line.trim_start().split(['=', ' ', '\t']).next();
    name.expect("`split` returns at least one part")
        .to_ascii_lowercase()
}
