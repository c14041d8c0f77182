//! The statements, each under a name that also shows in `pg_stat_activity` and in the metrics.

/// One statement.
#[derive(Debug)]
pub(super) struct Query {
    /// The name, as its metrics have it.
    pub(super) name: &'static str,
    /// The text.
    pub(super) sql: &'static str,
    /// Whether it changes anything, so that its outcome can be unknown.
    pub(super) effect: Effect,
    /// Which kind of connection it is run on.
    pub(super) lane: Lane,
}

/// What a statement does to the data. Each may be repeated: a write here is absolute, or carries the
/// key of its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Writes,
}

/// Which kind of connection a statement is run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// One that other statements are on too. For reads of a row by its key, which hold nobody up.
    Shared,
    /// One of its own.
    Own,
}

pub(super) static HELLO_GET: Query = Query {
    name: "hello_get",
    sql: include_str!("queries/hello_get.sql"),
    effect: Effect::Reads,
    lane: Lane::Shared,
};

pub(super) static HELLO_GET_ANY_CASE: Query = Query {
    name: "hello_get_any_case",
    sql: include_str!("queries/hello_get_any_case.sql"),
    effect: Effect::Reads,
    lane: Lane::Shared,
};

pub(super) static HELLO_PUT: Query = Query {
    name: "hello_put",
    sql: include_str!("queries/hello_put.sql"),
    effect: Effect::Writes,
    lane: Lane::Own,
};

pub(super) static MEMBER_CREATE: Query = Query {
    name: "member_create",
    sql: include_str!("queries/member_create.sql"),
    effect: Effect::Writes,
    lane: Lane::Own,
};

pub(super) static MEMBERS_LIST: Query = Query {
    name: "members_list",
    sql: include_str!("queries/members_list.sql"),
    effect: Effect::Reads,
    lane: Lane::Own,
};

pub(super) static USER_CREATE: Query = Query {
    name: "user_create",
    sql: include_str!("queries/user_create.sql"),
    effect: Effect::Writes,
    lane: Lane::Own,
};

pub(super) static USER_GET: Query = Query {
    name: "user_get",
    sql: include_str!("queries/user_get.sql"),
    effect: Effect::Reads,
    lane: Lane::Shared,
};

pub(super) static USERS_LIST: Query = Query {
    name: "users_list",
    sql: include_str!("queries/users_list.sql"),
    effect: Effect::Reads,
    lane: Lane::Own,
};

pub(super) static BEER_CREATE: Query = Query {
    name: "beer_create",
    sql: include_str!("queries/beer_create.sql"),
    effect: Effect::Writes,
    lane: Lane::Own,
};

pub(super) static BEERS_LIST: Query = Query {
    name: "beers_list",
    sql: include_str!("queries/beers_list.sql"),
    effect: Effect::Reads,
    lane: Lane::Own,
};

pub(super) static BEERS_SEED: Query = Query {
    name: "beers_seed",
    sql: include_str!("queries/beers_seed.sql"),
    effect: Effect::Writes,
    lane: Lane::Own,
};

pub(super) static REQUESTS_EXPIRE: Query = Query {
    name: "requests_expire",
    sql: include_str!("queries/requests_expire.sql"),
    effect: Effect::Writes,
    lane: Lane::Own,
};
