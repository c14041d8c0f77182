//! Lines of a manifest: the head, then one line for each file.

use std::io::{self, BufRead, Read as _};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backup::manifest::{Manifest, ManifestError, ManifestFile};

/// Maximum length of the first line: packs and directories, about 100 bytes each. 64 MiB are the packs of more
/// than 40 TB.
pub const MAX_HEAD_BYTES: u64 = 64 << 20;

/// Maximum length of the line of a file. A relation file of 1 GiB has 256 blobs in 40 KB; 16 MiB are a file of
/// 400 GB.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// Reason why the lines of a manifest are rejected.
#[derive(Debug, thiserror::Error)]
pub enum ManifestLineError {
    /// The manifest could not be read.
    #[error("the manifest could not be read")]
    Read(#[from] io::Error),
    /// A line is longer than the limit, so it is not kept in memory.
    #[error("line {line} of the manifest is longer than {limit} bytes")]
    TooLong {
        /// Number of the line, from 1.
        line: u64,
        /// Limit in bytes.
        limit: u64,
    },
    /// A line is not valid JSON of its type.
    #[error("line {line} of the manifest is not valid")]
    Malformed {
        /// Number of the line, from 1.
        line: u64,
        /// Cause.
        source: serde_json::Error,
    },
    /// There are fewer or more files than the first line announces.
    #[error("the manifest announces {announced} files and has {found}")]
    FileCount {
        /// Number in the first line.
        announced: u64,
        /// Number found; one more than announced if there are more.
        found: u64,
    },
    /// The manifest is not valid.
    #[error(transparent)]
    Invalid(#[from] ManifestError),
}

/// Returns the first line of a manifest, with its line feed.
///
/// # Errors
///
/// [`ManifestLineError::TooLong`], before a backup is stored that no restore could read.
pub fn head_line(manifest: &Manifest) -> Result<Vec<u8>, ManifestLineError> {
    line(manifest, 1, MAX_HEAD_BYTES)
}

/// Returns the line of a file, with its line feed.
///
/// # Errors
///
/// [`ManifestLineError::TooLong`], before a backup is stored that no restore could read.
pub fn file_line(file: &ManifestFile) -> Result<Vec<u8>, ManifestLineError> {
    line(file, 2, MAX_FILE_BYTES)
}

fn line(value: &impl Serialize, line: u64, limit: u64) -> Result<Vec<u8>, ManifestLineError> {
    let mut text = serde_json::to_vec(value)
        .map_err(|source| ManifestLineError::Malformed { line, source })?;
    text.push(b'\n');
    if u64::try_from(text.len()).is_ok_and(|length| length <= limit) {
        return Ok(text);
    }
    Err(ManifestLineError::TooLong { line, limit })
}

/// Head of a manifest, and the number of its files read so far.
#[derive(Debug)]
struct CheckedFiles {
    head: Manifest,
    files_read: u64,
}

impl CheckedFiles {
    fn new(head: Option<Manifest>) -> Result<Self, ManifestLineError> {
        // An empty manifest is truncated before its first line.
        let head = head.ok_or(ManifestLineError::Read(io::ErrorKind::UnexpectedEof.into()))?;
        head.check()?;
        Ok(Self {
            head,
            files_read: 0,
        })
    }

    fn next_line(&self) -> u64 {
        self.files_read + 2
    }

    /// Checks the next file, or the end of the files.
    fn accept(
        &mut self,
        read: Option<ManifestFile>,
    ) -> Result<Option<ManifestFile>, ManifestLineError> {
        let found = self.files_read + u64::from(read.is_some());
        let announced = self.head.files;
        let Some(file) = read.filter(|_| found <= announced) else {
            if found == announced {
                return Ok(None);
            }
            return Err(ManifestLineError::FileCount { announced, found });
        };
        self.files_read = found;
        self.head.check_file(&file)?;
        Ok(Some(file))
    }
}

/// Reader of a manifest, file by file. Everything that it returns has been checked.
#[derive(Debug)]
pub struct ManifestReader<R> {
    source: R,
    checked: CheckedFiles,
    line: Vec<u8>,
    is_over: bool,
}

impl<R: BufRead> ManifestReader<R> {
    /// Reads and checks the head.
    ///
    /// # Errors
    ///
    /// [`ManifestLineError`]
    pub fn open(mut source: R) -> Result<Self, ManifestLineError> {
        let mut line = Vec::new();
        let head = parse(&mut source, &mut line, 1, MAX_HEAD_BYTES)?;
        Ok(Self {
            source,
            checked: CheckedFiles::new(head)?,
            line,
            is_over: false,
        })
    }

    /// Returns the head.
    pub fn head(&self) -> &Manifest {
        &self.checked.head
    }

    fn read_file(&mut self) -> Result<Option<ManifestFile>, ManifestLineError> {
        let number = self.checked.next_line();
        let read = parse(&mut self.source, &mut self.line, number, MAX_FILE_BYTES)?;
        self.checked.accept(read)
    }
}

/// Files until the end or the first error.
impl<R: BufRead> Iterator for ManifestReader<R> {
    type Item = Result<ManifestFile, ManifestLineError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let read = self.read_file().transpose();
        self.is_over = !matches!(read, Some(Ok(_)));
        read
    }
}

/// Check of a manifest that arrives in parts, which keeps only the head.
#[derive(Debug, Default)]
pub struct ManifestLines {
    checked: Option<CheckedFiles>,
    line: Vec<u8>,
}

impl ManifestLines {
    /// Reads the next part.
    ///
    /// # Errors
    ///
    /// The first [`ManifestLineError`].
    pub fn push(&mut self, content: &[u8]) -> Result<(), ManifestLineError> {
        for part in content.split_inclusive(|byte| *byte == b'\n') {
            let (line, limit) = self.expected();
            self.line.extend_from_slice(part);
            let is_over = part.ends_with(b"\n");
            let length = u64::try_from(self.line.len()).unwrap_or(u64::MAX);
            if length > limit || (length == limit && !is_over) {
                return Err(ManifestLineError::TooLong { line, limit });
            }
            if is_over {
                self.take_line()?;
            }
        }
        Ok(())
    }

    /// Reads the end, and returns the head.
    ///
    /// # Errors
    ///
    /// [`ManifestLineError`] if it is not the end of a manifest.
    pub fn finish(&mut self) -> Result<&Manifest, ManifestLineError> {
        if !self.line.is_empty() {
            self.take_line()?;
        }
        match &mut self.checked {
            None => Err(ManifestLineError::Read(io::ErrorKind::UnexpectedEof.into())),
            Some(checked) => {
                checked.accept(None)?;
                Ok(&checked.head)
            }
        }
    }

    /// Returns the head, once it has been read.
    pub fn head(&self) -> Option<&Manifest> {
        self.checked.as_ref().map(|checked| &checked.head)
    }

    /// Converts into the head, if it has been read.
    pub fn into_head(self) -> Option<Manifest> {
        self.checked.map(|checked| checked.head)
    }

    /// Returns the number of the current line, and its limit.
    fn expected(&self) -> (u64, u64) {
        match &self.checked {
            None => (1, MAX_HEAD_BYTES),
            Some(checked) => (checked.next_line(), MAX_FILE_BYTES),
        }
    }

    fn take_line(&mut self) -> Result<(), ManifestLineError> {
        let (number, _) = self.expected();
        match &mut self.checked {
            None => self.checked = Some(CheckedFiles::new(Some(parsed(&self.line, number)?))?),
            Some(checked) => drop(checked.accept(Some(parsed(&self.line, number)?))?),
        }
        self.line.clear();
        Ok(())
    }
}

/// Reads the next line into `buffer`, or nothing at the end.
fn parse<T: DeserializeOwned>(
    source: &mut impl BufRead,
    buffer: &mut Vec<u8>,
    line: u64,
    limit: u64,
) -> Result<Option<T>, ManifestLineError> {
    buffer.clear();
    source.take(limit).read_until(b'\n', buffer)?;
    if buffer.is_empty() {
        return Ok(None);
    }
    if buffer.last() != Some(&b'\n')
        && u64::try_from(buffer.len()).is_ok_and(|length| length >= limit)
    {
        return Err(ManifestLineError::TooLong { line, limit });
    }
    parsed(buffer, line).map(Some)
}

fn parsed<T: DeserializeOwned>(text: &[u8], line: u64) -> Result<T, ManifestLineError> {
    serde_json::from_slice(text).map_err(|source| ManifestLineError::Malformed { line, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backup::manifest::tests::{file, manifest};

    #[test]
    fn manifest_written_then_same_files_read() {
        let text = written(2, &["base/5/1259", "PG_VERSION"]);

        let reader = ManifestReader::open(text.as_slice()).unwrap();

        assert_eq!(reader.head().label, "nightly");
        let paths: Vec<String> = reader.map(|file| file.unwrap().path).collect();
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
            assert!(reader.any(|file| file.is_err()), "{announced} {paths:?}");
            assert!(reader.next().is_none());
        }
        let mut cut = written(1, &["base/5/1259"]);
        cut.truncate(cut.len() - 20);
        let mut reader = ManifestReader::open(cut.as_slice()).unwrap();
        assert!(matches!(
            reader.next(),
            Some(Err(ManifestLineError::Malformed { line: 2, .. }))
        ));
        assert!(ManifestReader::open(b"".as_slice()).is_err());
    }

    /// A manifest in parts is checked like a whole one.
    #[test]
    fn parts_of_any_size_then_same_result() {
        let mut cut = written(1, &["base/5/1259"]);
        cut.truncate(cut.len() - 20);
        for text in [
            written(2, &["base/5/1259", "PG_VERSION"]),
            written(2, &["a"]),
            written(0, &["a"]),
            written(1, &["../a"]),
            cut,
            Vec::new(),
        ] {
            let read = ManifestReader::open(text.as_slice());
            let read = read.and_then(|mut reader| reader.try_for_each(|file| file.map(drop)));
            for size in [1, 7, 1000, 1 << 20] {
                let mut lines = ManifestLines::default();
                let pushed = text.chunks(size).try_for_each(|chunk| lines.push(chunk));
                let ended = pushed.and_then(|()| lines.finish().map(drop));
                assert_eq!(format!("{ended:?}"), format!("{read:?}"), "{size}");
            }
        }
    }

    #[test]
    fn endless_line_in_parts_then_error() {
        let mut lines = ManifestLines::default();
        lines.push(&head_line(&manifest(10)).unwrap()).unwrap();
        let piece = vec![b'x'; 1 << 20];
        let pushed = (0..100).try_for_each(|_| lines.push(&piece));
        assert!(matches!(
            pushed,
            Err(ManifestLineError::TooLong { line: 2, .. })
        ));
        assert!(lines.line.len() <= 17 << 20);
    }

    #[test]
    fn endless_line_then_error_and_bounded_memory() {
        let head = head_line(&manifest(10)).unwrap();
        let endless = head.as_slice().chain(io::repeat(b'x'));

        let mut reader = ManifestReader::open(io::BufReader::new(endless)).unwrap();

        let error = reader.next().unwrap().unwrap_err();
        assert!(matches!(
            error,
            ManifestLineError::TooLong {
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
