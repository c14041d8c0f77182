//! Classification of errors of statements: leave the server, retry, or return the error to the client.

use std::error::Error;
use std::io;
use std::time::Duration;

use tokio_postgres::error::{DbError, Severity, SqlState};
use tokio_postgres::types::FromSql;
use tokio_postgres::{Error as PostgresError, Row};
use tracing::error;

/// The constraint by which a second request under one key fails.
const KEY_CONSTRAINT: &str = "api_requests_pkey";

/// Reason why a request has no result from the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseError {
    /// No server answers, or none in time.
    Away,
    /// Servers answer, but none accepts writes.
    ReadOnly,
    /// Every connection is in use, and has been for too long.
    Busy,
    /// The table has this rule, which the values break.
    Constraint(String),
    /// Another row has the value that must be unique.
    Taken,
    /// The key belongs to a request with other content.
    KeyReused,
    /// A mistake in this program; the log has it.
    Bug,
}

/// Reason why a statement has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    /// The server rejected the statement, or the connection ended.
    #[error("the statement failed")]
    Statement(#[source] PostgresError),
    /// The response of the server does not have the expected form.
    #[error("the answer could not be read")]
    Unreadable(#[source] PostgresError),
    #[error("could not resolve `{0}`")]
    Unresolved(String, #[source] io::Error),
    #[error("PostgreSQL refused the connection")]
    Refused(#[from] PostgresError),
    #[error("PostgreSQL refused the connection a moment ago: {0}")]
    RefusedLately(String),
    /// The server did not report its status in time.
    #[error("PostgreSQL did not answer within {0:?}")]
    NoResponse(Duration),
    #[error(
        "another session answers than before: this is a pooler that keeps none, such as PgBouncer \
         with `pool_mode=transaction`; connect to PostgreSQL, or set `pool_mode=session`"
    )]
    Pooled,
    /// The server has not answered, although its own timeout for the statement is over.
    #[error("the statement had no answer within {0:?}")]
    Unanswered(Duration),
    /// The request timed out before the answer arrived, which does not mean a failed server.
    #[error("the request timed out {0:?} after the statement was sent")]
    OutOfTime(Duration),
    /// The connection was ended by this program, for another statement on it.
    #[error("the connection was ended before the answer came")]
    Ended,
    /// The wait of the commit for its standby was cancelled, so a failover can lose it.
    #[error("the commit's wait for its standby was cancelled")]
    Unreplicated,
    /// The server that was the primary accepts no writes.
    #[error("the server accepts no writes")]
    ReadOnly,
    /// The server is of another database, of a timeline that was left, or none of PostgreSQL.
    #[error("{0}")]
    OtherServer(String),
    /// No server accepts writes.
    #[error("no server accepts writes")]
    NoPrimary {
        /// Whether some server answers.
        read_only: bool,
    },
    /// Every connection is in use.
    #[error("every connection is in use")]
    PoolExhausted,
    /// The tables are not there yet.
    #[error("the schema is not up to date")]
    NoSchema,
}

/// Consequence of an error for the server and for the statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// The server is gone, or going: leave it, and repeat the statement elsewhere.
    ServerLost,
    /// The server accepts no writes: leave it, and repeat the statement elsewhere.
    ServerReadOnly,
    /// The server may be frozen: look for another one, and repeat the statement.
    ServerSilent,
    /// This connection is of no more use: take another one, and repeat the statement.
    ConnectionSpent,
    /// The same statement may succeed in a moment.
    Passing,
    /// The budget is spent, or the statement would end the same way.
    Final,
    /// A mistake in this program.
    Bug,
}

impl QueryError {
    pub(super) fn class(&self) -> ErrorClass {
        match self {
            Self::Statement(error) => class(error),
            Self::Refused(error) if class(error) == ErrorClass::ServerLost => {
                ErrorClass::ServerLost
            }
            // Refused at login, as with a wrong password, which an operator may mend meanwhile.
            Self::Refused(_) | Self::RefusedLately(_) => ErrorClass::Passing,
            Self::Unanswered(_) | Self::NoResponse(_) | Self::Unresolved(..) => {
                ErrorClass::ServerSilent
            }
            Self::ReadOnly => ErrorClass::ServerReadOnly,
            Self::OtherServer(_) | Self::Pooled => ErrorClass::ServerLost,
            Self::Ended => ErrorClass::ConnectionSpent,
            Self::Unreadable(_) => ErrorClass::Bug,
            Self::OutOfTime(_)
            | Self::Unreplicated
            | Self::NoPrimary { .. }
            | Self::PoolExhausted
            | Self::NoSchema => ErrorClass::Final,
        }
    }

    /// Returns why the statement is repeated, or `None` where that would be of no use.
    pub(super) fn retry_reason(&self) -> Option<&'static str> {
        match self.class() {
            ErrorClass::ServerLost => Some("server-lost"),
            ErrorClass::ServerReadOnly => Some("read-only"),
            ErrorClass::ServerSilent => Some("server-silent"),
            ErrorClass::ConnectionSpent => Some("connection-spent"),
            ErrorClass::Passing => Some("passing"),
            ErrorClass::Final | ErrorClass::Bug => None,
        }
    }

    /// Returns whether the connection is of no more use.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(
            self.class(),
            ErrorClass::ServerLost | ErrorClass::ServerReadOnly | ErrorClass::ConnectionSpent
        )
    }

    /// Returns the class of the SQLSTATE, the first two characters, or a word where there is none.
    pub(super) fn sqlstate_class(&self) -> &str {
        match self {
            Self::Statement(error) | Self::Refused(error) => sqlstate_class(error).unwrap_or("io"),
            Self::RefusedLately(_) | Self::Pooled => "refused",
            Self::Unresolved(..)
            | Self::NoResponse(_)
            | Self::Unanswered(_)
            | Self::OutOfTime(_) => "timeout",
            Self::Ended => "io",
            Self::Unreadable(_) => "decoding",
            Self::Unreplicated => "01",
            Self::NoPrimary { .. } | Self::ReadOnly | Self::OtherServer(_) => "no_primary",
            Self::PoolExhausted => "pool",
            Self::NoSchema => "schema",
        }
    }

    /// Returns whether the statement timed out waiting for a lock.
    pub(super) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Statement(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }

    /// Returns the rule of a table that the values break, or the column that may not be without one:
    /// tables of earlier services, and those that an operator has changed, have rules of their own.
    pub(super) fn constraint(&self) -> Option<&str> {
        let Self::Statement(error) = self else {
            return None;
        };
        let error = error.as_db_error()?;
        let name = error.constraint().or(error.column())?;
        (error.code().code().starts_with("23") && name != KEY_CONSTRAINT).then_some(name)
    }

    /// Returns whether the outcome of the statement is unknown: it may have been committed.
    pub(super) fn is_unknown_outcome(&self) -> bool {
        let Self::Statement(error) = self else {
            return matches!(
                self,
                Self::Unanswered(_) | Self::OutOfTime(_) | Self::Ended | Self::Unreplicated
            );
        };
        error.code().is_none()
    }
}

impl From<&QueryError> for DatabaseError {
    fn from(error: &QueryError) -> Self {
        let is_read_only = matches!(error, QueryError::NoPrimary { read_only: true });
        let class = error.class();
        if let Some(name) = error.constraint() {
            Self::Constraint(name.to_owned())
        } else if class == ErrorClass::Bug {
            Self::Bug
        } else if is_read_only || class == ErrorClass::ServerReadOnly {
            Self::ReadOnly
        } else if matches!(error, QueryError::PoolExhausted) {
            Self::Busy
        } else {
            Self::Away
        }
    }
}

fn sqlstate_class(error: &PostgresError) -> Option<&str> {
    error.code().and_then(|code| code.code().get(..2))
}

fn class(error: &PostgresError) -> ErrorClass {
    // No SQLSTATE: the connection ended, or what came over it was not PostgreSQL's protocol.
    let (Some(code), Some(sqlstate_class)) = (error.code(), sqlstate_class(error)) else {
        return ErrorClass::ServerLost;
    };
    let constraint = error.as_db_error().and_then(DbError::constraint);
    match *code {
        SqlState::READ_ONLY_SQL_TRANSACTION => return ErrorClass::ServerReadOnly,
        SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN | SqlState::CANNOT_CONNECT_NOW => {
            return ErrorClass::ServerLost;
        }
        // "cached plan must not change result type", after a migration; and prepared statements that a
        // pooler has lost.
        SqlState::FEATURE_NOT_SUPPORTED | SqlState::INVALID_SQL_STATEMENT_NAME => {
            return ErrorClass::ConnectionSpent;
        }
        // Another request under the same key was first. Asked again, the statement finds its answer.
        SqlState::UNIQUE_VIOLATION if constraint == Some(KEY_CONSTRAINT) => {
            return ErrorClass::Passing;
        }
        SqlState::QUERY_CANCELED
        | SqlState::DISK_FULL
        | SqlState::UNDEFINED_TABLE
        | SqlState::INSUFFICIENT_PRIVILEGE => return ErrorClass::Final,
        _ => {}
    }
    match sqlstate_class {
        "08" => ErrorClass::ServerLost,
        // Rolled back to be tried again (40), out of connections or memory (53), not in the right
        // state (55, such as a lock that was waited for).
        "40" | "53" | "55" => ErrorClass::Passing,
        // Not allowed in (28), no such database (3D), an error of the server's system (58): an
        // operator's to mend, and no mistake of this program.
        "28" | "3D" | "58" => ErrorClass::Final,
        // The server ended the session, as after `idle_session_timeout` (57P05).
        _ if is_fatal(error) => ErrorClass::ConnectionSpent,
        _ => ErrorClass::Bug,
    }
}

fn is_fatal(error: &PostgresError) -> bool {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    matches!(severity, Some(Severity::Fatal | Severity::Panic))
}

/// Returns whether a server that refused a connection would refuse the next one the same: a password, a
/// line of `pg_hba.conf`, a database that is not there, a certificate.
pub(super) fn is_permanent(error: &PostgresError) -> bool {
    let is_io = || error.source().is_some_and(<dyn Error>::is::<io::Error>);
    match error.code() {
        Some(_) => class(error) != ErrorClass::ServerLost,
        None => !error.is_closed() && !is_io(),
    }
}

pub(super) fn read<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, QueryError> {
    row.try_get(index).map_err(QueryError::Unreadable)
}

pub(super) fn read_all<T>(
    rows: &[Row],
    read: impl Fn(&Row) -> Result<T, PostgresError>,
) -> Result<Vec<T>, DatabaseError> {
    let all: Result<Vec<T>, _> = rows.iter().map(read).collect();
    all.map_err(|error| {
        error!(%error, "row unreadable");
        DatabaseError::Bug
    })
}
