//! The bytes of the write-ahead log, as far as a backup has to understand them.

pub mod scan;

pub use scan::{WalRecord, WalScanner};
