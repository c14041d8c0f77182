//! Locks of data that a panic leaves whole.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after another holder has panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
