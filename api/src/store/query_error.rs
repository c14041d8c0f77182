//! What went wrong with a statement, and so what to do: leave the server, try again, or tell.

use std::error::Error;
use std::io;
use std::time::Duration;

use tokio_postgres::error::{DbError, Severity, SqlState};

use super::requests::KEY_CONSTRAINT;

/// Why a statement has no result.
#[derive(Debug, thiserror::Error)]
pub(super) enum QueryError {
    /// The server said no, or the connection to it ended.
    #[error("the statement failed")]
    Statement(#[source] tokio_postgres::Error),
    /// What the server sent is not what was asked for.
    #[error("the answer could not be read")]
    Unreadable(#[source] tokio_postgres::Error),
    #[error("could not resolve `{0}`")]
    Unresolved(String, #[source] io::Error),
    #[error("PostgreSQL refused the connection")]
    Refused(#[from] tokio_postgres::Error),
    #[error("PostgreSQL refused the connection a moment ago: {0}")]
    RefusedLately(String),
    /// The server did not say in time what it is.
    #[error("PostgreSQL did not answer within {0:?}")]
    Silent(Duration),
    #[error(
        "another session answers than before: this is a pooler that keeps none, such as PgBouncer \
         with `pool_mode=transaction`; connect to PostgreSQL, or set `pool_mode=session`"
    )]
    Pooled,
    /// The server has not answered, and should have: it ends a statement by itself before this.
    #[error("the statement had no answer within {0:?}")]
    Unanswered(Duration),
    /// The request's time was over before the answer came, which says nothing about the server.
    #[error("the request's time was over {0:?} after the statement was sent")]
    OutOfTime(Duration),
    /// The connection was ended by this program, for another statement on it.
    #[error("the connection was ended before the answer came")]
    Ended,
    /// The commit was told not to wait for its standby, so a failover can lose it.
    #[error("the commit was told not to wait for its standby")]
    Unreplicated,
    /// The server that was the primary accepts no writes.
    #[error("the server accepts no writes")]
    ReadOnly,
    /// The server is not the one that is looked for: of another database, or of a history that was left.
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

/// What a failure means for the server and for the statement.
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
            Self::Statement(error) => of(error),
            Self::Refused(error) if of(error) == ErrorClass::ServerLost => ErrorClass::ServerLost,
            // Refused at the door, as with a wrong password: it may be mended while we wait.
            Self::Refused(_) | Self::RefusedLately(_) => ErrorClass::Passing,
            Self::Unanswered(_) | Self::Silent(_) | Self::Unresolved(..) => {
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

    /// Returns the class of the SQLSTATE, the first two characters, or a word where there is none.
    pub(super) fn sqlstate_class(&self) -> &str {
        let code = match self {
            Self::Statement(error) | Self::Refused(error) => error.code(),
            Self::RefusedLately(_) | Self::Pooled => return "refused",
            Self::Unresolved(..) | Self::Silent(_) | Self::Unanswered(_) | Self::OutOfTime(_) => {
                return "timeout";
            }
            Self::Ended => return "io",
            Self::Unreadable(_) => return "decoding",
            Self::Unreplicated => return "01",
            Self::NoPrimary { .. } | Self::ReadOnly | Self::OtherServer(_) => return "no_primary",
            Self::PoolExhausted => return "pool",
            Self::NoSchema => return "schema",
        };
        code.and_then(|it| it.code().get(..2)).unwrap_or("io")
    }

    /// Returns whether a lock was waited for in vain.
    pub(super) fn is_lock_timeout(&self) -> bool {
        let code = |it: &tokio_postgres::Error| it.code() == Some(&SqlState::LOCK_NOT_AVAILABLE);
        matches!(self, Self::Statement(error) if code(error))
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

fn of(error: &tokio_postgres::Error) -> ErrorClass {
    let Some(code) = error.code() else {
        // No SQLSTATE: the connection ended, or what came over it was not PostgreSQL's protocol.
        return ErrorClass::ServerLost;
    };
    if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        return ErrorClass::ServerReadOnly;
    }
    if *code == SqlState::ADMIN_SHUTDOWN
        || *code == SqlState::CRASH_SHUTDOWN
        || *code == SqlState::CANNOT_CONNECT_NOW
    {
        return ErrorClass::ServerLost;
    }
    if *code == SqlState::QUERY_CANCELED || *code == SqlState::DISK_FULL {
        return ErrorClass::Final;
    }
    // "cached plan must not change result type", after a migration; and prepared statements that a
    // pooler has lost.
    if *code == SqlState::FEATURE_NOT_SUPPORTED || *code == SqlState::INVALID_SQL_STATEMENT_NAME {
        return ErrorClass::ConnectionSpent;
    }
    // Another request under the same key was first. Asked again, the statement finds its answer.
    let constraint = error.as_db_error().and_then(|it| it.constraint());
    if *code == SqlState::UNIQUE_VIOLATION && constraint == Some(KEY_CONSTRAINT) {
        return ErrorClass::Passing;
    }
    match code.code().get(..2).unwrap_or_default() {
        "08" => ErrorClass::ServerLost,
        // Rolled back to be tried again (40), out of connections or memory (53), not in the right
        // state (55, such as a lock that was waited for).
        "40" | "53" | "55" => ErrorClass::Passing,
        // Not allowed in (28, 42501), no such database (3D) or table (42P01), an error of the
        // server's system (58): an operator's to mend, and no mistake of this program.
        "28" | "3D" | "58" => ErrorClass::Final,
        _ if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INSUFFICIENT_PRIVILEGE => {
            ErrorClass::Final
        }
        // The server ended the session, as after `idle_session_timeout` (57P05).
        _ if is_fatal(error) => ErrorClass::ConnectionSpent,
        _ => ErrorClass::Bug,
    }
}

/// Returns whether a server that refused a connection would refuse the next one the same: a password, a
/// line of `pg_hba.conf`, a database that is not there, a certificate.
pub(super) fn is_permanent(error: &tokio_postgres::Error) -> bool {
    let is_io = || error.source().is_some_and(<dyn Error>::is::<io::Error>);
    match error.code() {
        Some(_) => of(error) != ErrorClass::ServerLost,
        None => !error.is_closed() && !is_io(),
    }
}

fn is_fatal(error: &tokio_postgres::Error) -> bool {
    let severity = error.as_db_error().and_then(DbError::parsed_severity);
    matches!(severity, Some(Severity::Fatal | Severity::Panic))
}
