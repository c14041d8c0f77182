//! The statements, each under a name that also shows in `pg_stat_activity` and in the metrics.

use std::sync::atomic::AtomicBool;

use tokio::sync::Semaphore;

use crate::answer_memory::PAGES_OF_ONE_LIST;

/// The hedges of one statement at once: a server that is slow as a whole gets hardly more work.
const HEDGES: usize = 2;

/// One statement.
#[derive(Debug)]
pub(crate) struct Query {
    /// The name in metrics.
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
    /// Whether it changes data, so that its outcome can be unknown.
    pub(super) effect: Effect,
    /// The connections that it runs on.
    pub(super) kind: ConnectionKind,
    /// Whether its last attempt timed out waiting for a lock. Then one request at a time waits for the
    /// lock, so that a locked table occupies one connection, and not those of other tables.
    pub(super) is_locked: AtomicBool,
    pub(super) lock_turn: Semaphore,
    pub(super) hedges: Semaphore,
    /// Limits the pages of one list that are made at once.
    pub(super) pages: Semaphore,
}

/// The effect of a statement on the data. Each may be repeated: a write is absolute and does nothing once
/// a newer one has been stored, or carries the key of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Writes,
}

/// The connections that a statement runs on. No kind can use up those of another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionKind {
    /// Shared by many statements at once: for reads of a row by its key, which are short.
    Pipelined,
    /// For reads of many rows, and for reads that had no answer on a shared one.
    Lists,
    /// For statements that create rows.
    Creates,
    /// For writes of birthdays, many in one statement.
    Birthdays,
}

macro_rules! queries {
    ($($constant:ident $name:literal $effect:ident $kind:ident;)*) => {$(
        pub(super) static $constant: Query = Query {
            name: $name,
            sql: include_str!(concat!("queries/", $name, ".sql")),
            effect: Effect::$effect,
            kind: ConnectionKind::$kind,
            is_locked: AtomicBool::new(false),
            lock_turn: Semaphore::const_new(1),
            hedges: Semaphore::const_new(HEDGES),
            pages: Semaphore::const_new(PAGES_OF_ONE_LIST),
        };
    )*};
}

queries! {
    HELLO_GET "hello_get" Reads Pipelined;
    HELLO_GET_ANY_CASE "hello_get_any_case" Reads Pipelined;
    HELLO_PUT "hello_put" Writes Birthdays;
    MEMBER_CREATE "member_create" Writes Creates;
    MEMBERS_LIST "members_list" Reads Lists;
    MEMBERS_LIST_END "members_list_end" Reads Lists;
    USER_CREATE "user_create" Writes Creates;
    USER_GET "user_get" Reads Pipelined;
    USERS_LIST "users_list" Reads Lists;
    USERS_LIST_END "users_list_end" Reads Lists;
    BEER_CREATE "beer_create" Writes Creates;
    BEERS_LIST "beers_list" Reads Lists;
    BEERS_LIST_END "beers_list_end" Reads Lists;
    BEERS_SEED "beers_seed" Writes Creates;
    REQUESTS_EXPIRE "requests_expire" Writes Creates;
    SERVER_CLOCK "server_clock" Reads Pipelined;
    SESSIONS_LEFT "sessions_left" Reads Pipelined;
}
