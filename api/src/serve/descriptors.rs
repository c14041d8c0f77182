//! How many connections the system lets this process have.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::warn;

use super::places::{LEAVING, RESERVE};

/// What else has a file descriptor: listeners, the runtime, the log, a collector, the cache.
const OTHERS: usize = 64;

/// Returns how many of `wanted` connections there may be beside `to_database` others. The process
/// may raise its own limit as far as the administrator allows, and does.
pub(crate) fn room_for(wanted: usize, to_database: usize) -> usize {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return wanted;
    };
    let is_raised = soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok();
    let limit = if is_raised { hard } else { soft };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let room = limit
        .saturating_sub(OTHERS + RESERVE + LEAVING + to_database)
        .max(1);
    if room < wanted {
        warn!(
            wanted,
            room,
            limit,
            "fewer connections fit than `MAX_CONNECTIONS`: raise the limit of open files, or lower it"
        );
    }
    room.min(wanted)
}
