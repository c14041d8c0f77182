//! Tracked files, and the tokens of Rust source.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::str::FromStr as _;

use anyhow::{Context as _, ensure};
use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A tracked text file.
#[derive(Debug)]
pub(crate) struct SourceFile {
    /// Path from the repository's root, with `/`.
    pub(crate) path: String,
    /// Contents.
    pub(crate) text: String,
    /// Contents in lower case.
    pub(crate) lower: String,
    /// Tokens of Rust source; empty for other files.
    pub(crate) tokens: Vec<Token>,
}

impl SourceFile {
    /// Splits the text of a Rust file into tokens.
    ///
    /// # Errors
    ///
    /// When the file is named `.rs` and is not Rust.
    pub(crate) fn new(path: &str, text: String) -> anyhow::Result<Self> {
        let mut tokens = Vec::new();
        if has_extension(path, "rs") {
            let stream = TokenStream::from_str(&text)
                .map_err(|error| anyhow::anyhow!("{path} is not Rust: {error}"))?;
            flatten(stream, &mut tokens);
        }
        Ok(Self {
            path: path.to_owned(),
            lower: text.to_lowercase(),
            text,
            tokens,
        })
    }

    /// Returns whether this is Rust source.
    pub(crate) fn is_rust(&self) -> bool {
        has_extension(&self.path, "rs")
    }

    /// Returns the crate, which is the first folder.
    pub(crate) fn crate_name(&self) -> &str {
        self.path.split('/').next().unwrap_or("")
    }

    /// Returns the file's name without its extension.
    pub(crate) fn stem(&self) -> &str {
        Path::new(&self.path)
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or("")
    }
}

/// Returns whether a path has an extension.
pub(crate) fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|actual| actual == extension)
}

/// Reads all tracked text files.
///
/// # Errors
///
/// When git or a file cannot be read.
pub(crate) fn tracked(root: &Path) -> anyhow::Result<Vec<SourceFile>> {
    let listing = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z"])
        .output()?;
    ensure!(listing.status.success(), "git could not list the files");
    let paths = String::from_utf8(listing.stdout).context("a file name is not UTF-8")?;
    let mut files = Vec::new();
    for path in paths.split('\0').filter(|path| !path.is_empty()) {
        // A file that was deleted and not yet staged, or is not text.
        let Ok(text) = fs::read_to_string(root.join(path)) else {
            continue;
        };
        files.push(SourceFile::new(path, text)?);
    }
    Ok(files)
}

/// A token of Rust source. Literals and comments are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// Identifier or keyword.
    Ident(String),
    /// Punctuation character.
    Punct(char),
    /// Opening delimiter.
    Open(Delimiter),
    /// Closing delimiter.
    Close(Delimiter),
}

impl Token {
    /// Returns the identifier, if it is one.
    pub(crate) fn ident(&self) -> Option<&str> {
        match self {
            Self::Ident(name) => Some(name),
            Self::Punct(_) | Self::Open(_) | Self::Close(_) => None,
        }
    }
}

fn flatten(stream: TokenStream, flat: &mut Vec<Token>) {
    for tree in stream {
        match tree {
            TokenTree::Ident(ident) => flat.push(Token::Ident(ident.to_string())),
            TokenTree::Punct(punct) => flat.push(Token::Punct(punct.as_char())),
            TokenTree::Literal(_) => {}
            TokenTree::Group(group) => {
                flat.push(Token::Open(group.delimiter()));
                flatten(group.stream(), flat);
                flat.push(Token::Close(group.delimiter()));
            }
        }
    }
}
