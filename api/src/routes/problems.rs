//! The pages of problem types, and the problems of failed statements.

use axum::Json;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header;
use axum::response::IntoResponse;
use serde_json::{Value, json};

use crate::problem::{Kind, Problem};
use crate::store::DatabaseError;

/// Describes every kind of problem.
pub(crate) async fn list() -> impl IntoResponse {
    let pages: Vec<Value> = Kind::ALL.iter().copied().map(page).collect();
    ([(header::CACHE_CONTROL, "max-age=3600")], Json(pages))
}

/// Describes one kind of problem.
pub(crate) async fn describe(
    name: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, Problem> {
    let mut kinds = Kind::ALL.iter().copied();
    let known = kinds.find(|kind| name.as_ref().is_ok_and(|name| name.0 == kind.describe().0));
    let unknown = || Problem::new(Kind::NotFound, "there is no such problem type");
    let page = known.map(page).ok_or_else(unknown)?;
    Ok(([(header::CACHE_CONTROL, "max-age=3600")], Json(page)))
}

fn page(kind: Kind) -> Value {
    let (_name, status, title) = kind.describe();
    json!({ "type": kind.path(), "title": title, "status": status.as_u16() })
}

impl From<DatabaseError> for Problem {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Away => Self::new(
                Kind::DatabaseUnavailable,
                "the database did not answer in time; try again in a moment",
            ),
            DatabaseError::ReadOnly => Self::new(
                Kind::ReadOnly,
                "the database accepts no writes at the moment; try again in a moment",
            ),
            DatabaseError::Busy => Self::new(
                Kind::Overloaded,
                "every connection to the database is in use; try again in a moment",
            ),
            DatabaseError::Constraint(name) => Self::new(
                Kind::Constraint,
                format!("the table's own rule `{name}` does not allow these values"),
            ),
            DatabaseError::Taken => Self::new(Kind::EmailTaken, "Email already exists"),
            DatabaseError::KeyReused => Self::new(
                Kind::KeyReused,
                "this Idempotency-Key was used for another request; use a new key for a new request",
            ),
            DatabaseError::Bug => Self::internal(),
        }
    }
}
