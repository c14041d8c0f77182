//! Repository-wide rules, one module per subject.

mod exit_codes;
mod import_cycles;
mod manifests;
mod pages;
mod rust_files;
mod type_names;
mod words;

use std::path::Path;

use crate::source::{SourceFile, tracked};

/// Returns every violation of a rule.
///
/// # Errors
///
/// When the repository cannot be read.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let files = tracked(root)?;
    let mut findings = Vec::new();
    manifests::check(&files, &mut findings)?;
    rust_files::check(&files, &mut findings);
    import_cycles::check(&files, &mut findings);
    type_names::check(&files, &mut findings);
    exit_codes::check(&files, &mut findings);
    words::check(&files, &mut findings);
    pages::check(root, &files, &mut findings);
    Ok(findings)
}

/// Returns a tracked file.
fn find<'a>(files: &'a [SourceFile], path: &str) -> Option<&'a SourceFile> {
    files.iter().find(|file| file.path == path)
}

#[cfg(test)]
mod planted {
    //! Files that tests make up.

    use crate::source::SourceFile;

    /// Returns files from paths and texts.
    pub(super) fn files<const N: usize>(files: [(&str, &str); N]) -> Vec<SourceFile> {
        files
            .map(|(path, text)| SourceFile::new(path, text.to_owned()).expect("valid tokens"))
            .into()
    }
}
