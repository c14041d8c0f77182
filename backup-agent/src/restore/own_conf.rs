//! The copy's own `postgresql.conf`, which may refer to the original.
//!
//! Debian keeps settings elsewhere; then the data directory has none. If it has one, the file may
//! name the original's data directory, which `postgres -D` of the copy would then start, or include
//! its files.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::Error;

/// Makes `postgresql.conf` name the copy instead of another data directory, and returns notes for
/// the operator about the remaining references.
pub(super) fn set_data_directory(directory: &Path) -> Result<Vec<String>, Error> {
    let path = directory.join("postgresql.conf");
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let mut notes = Vec::new();
    for line in text.lines().filter(|line| names_another_directory(line)) {
        notes.push(format!(
            "its postgresql.conf has `{}`: start it with settings of its own, by `-c config_file=FILE`",
            line.trim().escape_debug()
        ));
    }
    // An included file can name one as well.
    let can_name_another = |line: &str| name(line) == "data_directory" || is_include(line);
    if text.lines().any(can_name_another) {
        let own = directory.display().to_string();
        let line = format!(
            "\n# Written by `backup-agent restore`.\ndata_directory = '{}'\n",
            super::recovery::escaped(&own)
        );
        let appended = OpenOptions::new().append(true).open(&path);
        let appended = appended.and_then(|mut file| file.write_all(line.as_bytes()));
        appended.map_err(Error::io("write", &path))?;
        notes.push(format!(
            "its postgresql.conf names or includes settings that may name another data directory: it ends with `{own}` now"
        ));
    }
    Ok(notes)
}

/// Returns whether a line includes a file that a copy shares with the original.
fn names_another_directory(line: &str) -> bool {
    is_include(line)
        && ["'/", " /", "\t/", "=/", "../"]
            .iter()
            .any(|word| line.contains(word))
}

fn is_include(line: &str) -> bool {
    matches!(
        name(line).as_str(),
        "include" | "include_dir" | "include_if_exists"
    )
}

/// Returns the name of the setting in a line, in lower case.
fn name(line: &str) -> String {
    let line = line.trim_start();
    let parts = line.split_once(|character: char| character == '=' || character.is_whitespace());
    parts.map_or(line, |(name, _)| name).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_directory_of_the_original_then_that_of_the_copy() {
        let root = tempfile::tempdir().unwrap();
        assert!(set_data_directory(root.path()).unwrap().is_empty());
        let path = root.path().join("postgresql.conf");
        let text = "#data_directory = 'ConfigDir'\nshared_buffers = 16MB\n";
        std::fs::write(&path, text).unwrap();
        assert!(set_data_directory(root.path()).unwrap().is_empty());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);

        let text = format!("{text}  Data_Directory='/live'\ninclude_if_exists\t/etc/guard.conf\n");
        std::fs::write(&path, &text).unwrap();
        let notes = set_data_directory(root.path()).unwrap();
        assert_eq!(notes.len(), 2, "{notes:?}");
        let written = std::fs::read_to_string(&path).unwrap();
        let own = format!("data_directory = '{}'\n", root.path().display());
        assert!(
            written.starts_with(&text) && written.ends_with(&own),
            "{written}"
        );

        // An included file can name one, and precedes the appended line.
        std::fs::write(&path, "include_dir 'conf.d'\n").unwrap();
        set_data_directory(root.path()).unwrap();
        assert!(std::fs::read_to_string(&path).unwrap().ends_with(&own));
    }
}
