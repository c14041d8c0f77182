//! The lines of a manifest: everything but the files first, then one line for each file.

use std::io::{self, BufRead, Read as _};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backup::manifest::{File, Manifest, Unsound};

/// The longest first line: packs and directories, about 100 bytes each. 64 MiB are the packs of more
/// than 40 TB.
pub const MAX_HEAD_BYTES: u64 = 64 << 20;

/// The longest line of a file. A relation's file of 1 GiB has 256 blobs, and 40 KB; 16 MiB are a file
/// of 400 GB.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// Content that is not the lines of a manifest.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// It could not be read.
    #[error("the manifest could not be read")]
    Read(#[from] io::Error),
    /// A line has no end within the limit, and is not kept in memory any longer.
    #[error("line {line} of the manifest is longer than {limit} bytes")]
    TooLong {
        /// Its number, from 1.
        line: u64,
        /// The limit.
        limit: u64,
    },
    /// A line is not what it should be.
    #[error("line {line} of the manifest cannot be understood")]
    Malformed {
        /// Its number, from 1.
        line: u64,
        /// Why.
        source: serde_json::Error,
    },
    /// There are fewer or more files than the first line says.
    #[error("the manifest announces {announced} files and has {found}")]
    FileCount {
        /// What the first line says.
        announced: u64,
        /// How many there are, or one more than announced.
        found: u64,
    },
    /// What it says cannot be followed.
    #[error(transparent)]
    Unsound(#[from] Unsound),
}

/// Returns the first line of a manifest, with its end.
///
/// # Errors
///
/// [`LineError::TooLong`], before a backup is stored that no restore would read.
pub fn head_line(manifest: &Manifest) -> Result<Vec<u8>, LineError> {
    line(manifest, 1, MAX_HEAD_BYTES)
}

/// Returns the line of a file, with its end.
///
/// # Errors
///
/// [`LineError::TooLong`], before a backup is stored that no restore would read.
pub fn file_line(file: &File) -> Result<Vec<u8>, LineError> {
    line(file, 2, MAX_FILE_BYTES)
}

fn line(value: &impl Serialize, line: u64, limit: u64) -> Result<Vec<u8>, LineError> {
    let mut text =
        serde_json::to_vec(value).map_err(|source| LineError::Malformed { line, source })?;
    text.push(b'\n');
    if u64::try_from(text.len()).is_ok_and(|it| it <= limit) {
        return Ok(text);
    }
    Err(LineError::TooLong { line, limit })
}

/// Reads a manifest file by file. Everything it returns has been checked.
#[derive(Debug)]
pub struct ManifestReader<R> {
    source: R,
    head: Manifest,
    files_read: u64,
    line: Vec<u8>,
    is_over: bool,
}

impl<R: BufRead> ManifestReader<R> {
    /// Reads and checks everything but the files.
    ///
    /// # Errors
    ///
    /// [`LineError`]
    pub fn open(mut source: R) -> Result<Self, LineError> {
        let mut line = Vec::new();
        let head: Option<Manifest> = parse(&mut source, &mut line, 1, MAX_HEAD_BYTES)?;
        // An empty manifest is one that is cut off before its first line.
        let head = head.ok_or(LineError::Read(io::ErrorKind::UnexpectedEof.into()))?;
        head.check()?;
        Ok(Self {
            source,
            head,
            files_read: 0,
            line,
            is_over: false,
        })
    }

    /// Returns everything but the files.
    pub fn head(&self) -> &Manifest {
        &self.head
    }

    fn read_file(&mut self) -> Result<Option<File>, LineError> {
        let number = self.files_read + 2;
        let read: Option<File> = parse(&mut self.source, &mut self.line, number, MAX_FILE_BYTES)?;
        let found = self.files_read + u64::from(read.is_some());
        let announced = self.head.files;
        let Some(file) = read.filter(|_| found <= announced) else {
            if found == announced {
                return Ok(None);
            }
            return Err(LineError::FileCount { announced, found });
        };
        self.files_read = found;
        self.head.check_file(&file)?;
        Ok(Some(file))
    }
}

/// The files, until the end or the first error.
impl<R: BufRead> Iterator for ManifestReader<R> {
    type Item = Result<File, LineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let read = self.read_file().transpose();
        self.is_over = !matches!(read, Some(Ok(_)));
        read
    }
}

/// Reads the next line into `buffer`, or nothing at the end.
fn parse<T: DeserializeOwned>(
    source: &mut impl BufRead,
    buffer: &mut Vec<u8>,
    line: u64,
    limit: u64,
) -> Result<Option<T>, LineError> {
    buffer.clear();
    source.take(limit).read_until(b'\n', buffer)?;
    if buffer.is_empty() {
        return Ok(None);
    }
    if buffer.last() != Some(&b'\n') && u64::try_from(buffer.len()).is_ok_and(|it| it >= limit) {
        return Err(LineError::TooLong { line, limit });
    }
    let value =
        serde_json::from_slice(buffer).map_err(|source| LineError::Malformed { line, source })?;
    Ok(Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::tests::{file, manifest};

    #[test]
    fn reads_back_as_it_was_written() {
        let text = written(2, &["base/5/1259", "PG_VERSION"]);

        let reader = ManifestReader::open(text.as_slice()).unwrap();

        assert_eq!(reader.head().label, "nightly");
        let paths: Vec<String> = reader.map(|it| it.unwrap().path).collect();
        assert_eq!(paths, ["base/5/1259", "PG_VERSION"]);
    }

    #[test]
    fn too_few_too_many_or_stray_files_then_error() {
        for (announced, paths) in [
            (2, vec!["a"]),
            (0, vec!["a"]),
            (1, vec!["a", "b"]),
            (1, vec!["../a"]),
        ] {
            let text = written(announced, &paths);
            let mut reader = ManifestReader::open(text.as_slice()).unwrap();
            assert!(reader.any(|it| it.is_err()), "{announced} {paths:?}");
            assert!(reader.next().is_none());
        }
        let mut cut = written(1, &["base/5/1259"]);
        cut.truncate(cut.len() - 20);
        let mut reader = ManifestReader::open(cut.as_slice()).unwrap();
        assert!(matches!(
            reader.next(),
            Some(Err(LineError::Malformed { line: 2, .. }))
        ));
        assert!(ManifestReader::open(b"".as_slice()).is_err());
    }

    #[test]
    fn endless_line_then_error_and_bounded_memory() {
        let head = head_line(&manifest(10)).unwrap();
        let endless = head.as_slice().chain(io::repeat(b'x'));

        let mut reader = ManifestReader::open(io::BufReader::new(endless)).unwrap();

        let error = reader.next().unwrap().unwrap_err();
        assert!(matches!(
            error,
            LineError::TooLong {
                line: 2,
                limit: MAX_FILE_BYTES
            }
        ));
    }

    fn written(announced: u64, paths: &[&str]) -> Vec<u8> {
        let head = Manifest {
            files: announced,
            ..manifest(10)
        };
        let mut text = head_line(&head).unwrap();
        for path in paths {
            text.extend(file_line(&file(path)).unwrap());
        }
        text
    }
}
