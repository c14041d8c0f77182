//! `/hello/{username}`: dates of birth, and days to the next birthday.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use crate::body::read_object;
use crate::config::Config;
use crate::domain::{Invalid, Username, days_to_birthday, greeting, parse_date_of_birth};
use crate::load_limit::LoadLimit;
use crate::problem::{Kind, Problem};
use crate::store::birthdays::{Birthdays, LEAST_TIME};

/// The liveness probe of an earlier service is the greeting of this user name. A user may have the name too.
const PROBE: &str = "health";
/// Timeout of the liveness probe, which must not wait for a database. With less than [`LEAST_TIME`] left, a read would
/// not be batched with others.
const PROBE_TIMEOUT: Duration = LEAST_TIME.saturating_mul(2);

#[derive(Serialize)]
struct Greeting {
    message: String,
}

/// Greets a person.
pub(crate) async fn get(
    State(config): State<Arc<Config>>,
    State(birthdays): State<Arc<Birthdays>>,
    username: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let (hello, request_timeout) = (&config.hello, config.http.request_timeout);
    let status = config.services.validation_status;
    let username =
        parse_username(username).map_err(|broken| Problem::invalid(status, &[broken]))?;
    let is_probe = username.as_str() == PROBE;
    let budget = if is_probe {
        PROBE_TIMEOUT.min(request_timeout)
    } else {
        request_timeout
    };
    let deadline = Instant::now() + budget;
    let finding = birthdays.date_of_birth(&username, hello.case_insensitive, deadline);
    match finding.await {
        Ok(Some(born)) => {
            let days = days_to_birthday(born, hello.today(), hello.leap_day);
            let message = greeting(&username, days);
            Ok(Json(Greeting { message }).into_response())
        }
        Ok(None) | Err(_) if is_probe => Ok("OK".into_response()),
        Ok(None) => Err(Problem::new(
            Kind::NotFound,
            format!("User {username} not found"),
        )),
        Err(error) => Err(error.into()),
    }
}

/// Stores a person's date of birth.
pub(crate) async fn put(
    State(config): State<Arc<Config>>,
    State(load_limit): State<Arc<LoadLimit>>,
    State(birthdays): State<Arc<Birthdays>>,
    username: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let hello = &config.hello;
    let username = parse_username(username);
    let read = |body: &Map<String, Value>| {
        let born = parse_date_of_birth(body.get("dateOfBirth"), hello.today());
        match (username, born) {
            (Ok(username), Ok(born)) => Ok((username, born)),
            (username, born) => Err(username.err().into_iter().chain(born.err()).collect()),
        }
    };
    let invalid = config.services.validation_status;
    let (username, born) = read_object(&load_limit, request, invalid, read).await?;
    let username = if hello.case_insensitive {
        username.folded()
    } else {
        username
    };
    let deadline = Instant::now() + config.http.request_timeout;
    birthdays
        .put_date_of_birth(username, born, deadline)
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse_username(path: Result<Path<String>, PathRejection>) -> Result<Username, Invalid> {
    // Percent-encoded bytes that are not UTF-8 are no letters.
    let text = path.map_or_else(|_rejection| String::new(), |Path(text)| text);
    Username::parse(&text)
}
