//! WAL records, as far as a backup needs them.

mod record;
mod scanner;

pub use self::record::WalRecord;
pub use self::scanner::WalScanner;
