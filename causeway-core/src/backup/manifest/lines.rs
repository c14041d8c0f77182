//! The lines of a manifest: everything but the files first, then one line for each file.

use std::io::{self, BufRead, Read as _};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backup::manifest::{Manifest, ManifestError, ManifestFile};

/// The longest first line: packs and directories, about 100 bytes each. 64 MiB are the packs of more
/// than 40 TB.
pub const MAX_HEAD_BYTES: u64 = 64 << 20;

/// The longest line of a file. A relation's file of 1 GiB has 256 blobs, and 40 KB; 16 MiB are a file
/// of 400 GB.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// Content that is not the lines of a manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestLineError {
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
    #[error("line {line} of the manifest is not valid")]
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
    Invalid(#[from] ManifestError),
}

/// Returns the first line of a manifest, with its end.
///
/// # Errors
///
/// [`ManifestLineError::TooLong`], before a backup is stored that no restore would read.
pub fn head_line(manifest: &Manifest) -> Result<Vec<u8>, ManifestLineError> {
    line(manifest, 1, MAX_HEAD_BYTES)
}

/// Returns the line of a file, with its end.
///
/// # Errors
///
/// [`ManifestLineError::TooLong`], before a backup is stored that no restore would read.
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

/// A manifest that is being read, and how many of its files have been.
#[derive(Debug)]
struct CheckedFiles {
    head: Manifest,
    files_read: u64,
}

impl CheckedFiles {
    fn new(head: Option<Manifest>) -> Result<Self, ManifestLineError> {
        // An empty manifest is one that is cut off before its first line.
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

    /// Takes in the next file, or that there is none.
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

/// Reads a manifest file by file. Everything it returns has been checked.
#[derive(Debug)]
pub struct ManifestReader<R> {
    source: R,
    checked: CheckedFiles,
    line: Vec<u8>,
    is_over: bool,
}

impl<R: BufRead> ManifestReader<R> {
    /// Reads and checks everything but the files.
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

    /// Returns everything but the files.
    pub fn head(&self) -> &Manifest {
        &self.checked.head
    }

    fn read_file(&mut self) -> Result<Option<ManifestFile>, ManifestLineError> {
        let number = self.checked.next_line();
        let read = parse(&mut self.source, &mut self.line, number, MAX_FILE_BYTES)?;
        self.checked.accept(read)
    }
}

/// The files, until the end or the first error.
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

/// Checks a manifest that arrives in pieces, and keeps everything but the files.
#[derive(Debug, Default)]
pub struct ManifestLines {
    checked: Option<CheckedFiles>,
    line: Vec<u8>,
}

impl ManifestLines {
    /// Takes in what comes next.
    ///
    /// # Errors
    ///
    /// [`ManifestLineError`], with the first thing found.
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

    /// Takes in the end, and returns everything but the files.
    ///
    /// # Errors
    ///
    /// [`ManifestLineError`], if it is not the end of a manifest.
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

    /// Returns everything but the files, once that has come.
    pub fn head(&self) -> Option<&Manifest> {
        self.checked.as_ref().map(|checked| &checked.head)
    }

    /// Returns the same, for good.
    pub fn into_head(self) -> Option<Manifest> {
        self.checked.map(|checked| checked.head)
    }

    /// Returns the number of the line that is read, and its limit.
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
    if buffer.last() != Some(&b'\n') && u64::try_from(buffer.len()).is_ok_and(|length| length >= limit) {
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
    fn reads_back_as_it_was_written() {
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

    /// What arrives in pieces is judged as what is read.
    #[test]
    fn pieces_of_any_size_then_same_outcome() {
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
    fn endless_line_in_pieces_then_error() {
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
