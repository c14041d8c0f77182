//! The bytes of the write-ahead log, as far as a backup has to understand them.

mod record;
mod scanner;

pub use self::record::WalRecord;
pub use self::scanner::WalScanner;
