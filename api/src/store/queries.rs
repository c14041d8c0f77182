//! The statements, each under a name that also shows in `pg_stat_activity` and in the metrics.

use std::sync::atomic::AtomicBool;

use tokio::sync::Semaphore;

use crate::answer_memory::PAGES_OF_ONE_LIST;

/// A read is sent again so often at once. A server that is slow as a whole gets hardly more to do.
const HEDGES: usize = 2;

/// One statement.
#[derive(Debug)]
pub(crate) struct Query {
    /// The name, as its metrics have it.
    pub(super) name: &'static str,
    /// The text.
    pub(super) sql: &'static str,
    /// Whether it changes anything, so that its outcome can be unknown.
    pub(super) effect: Effect,
    /// Which connections it is run on.
    pub(super) kind: ConnectionKind,
    /// Whether it last waited for a lock in vain. One request at a time waits for it then, so that a
    /// table that is locked takes one connection, and leaves the others to other tables.
    pub(super) is_locked: AtomicBool,
    pub(super) lock_turn: Semaphore,
    pub(super) hedges: Semaphore,
    /// For the pages of a list that are made at once.
    pub(super) pages: Semaphore,
}

/// What a statement does to the data. Each may be repeated: a write here is absolute and does nothing
/// once a newer one has been stored, or carries the key of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Writes,
}

/// Which connections a statement is run on. None can use up those of another kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionKind {
    /// Shared with other statements: reads of a row by its key, which are short.
    Pipelined,
    /// For reads of many rows, and for reads that had no answer on a shared one.
    Lists,
    /// For what makes rows.
    Creates,
    /// For birthdays, many in one statement.
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
