//! `/hello/{username}`: dates of birth, and days to the next birthday.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use jiff::civil::Date;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::Instant;

use super::problems::unavailable;
use crate::body::read_object;
use crate::config::Config;
use crate::domain::{Invalid, Username, days_to_birthday, greeting, parse_date_of_birth};
use crate::load_limit::LoadLimit;
use crate::problem::{Kind, Problem};
use crate::store::birthdays::{Birthdays, LEAST_TIME};

/// The liveness probe of an earlier service is the greeting of this name. A person may have the name too.
const PROBE: &str = "health";
/// A liveness probe must not wait for a database; but with less than [`LEAST_TIME`] left it would not be
/// asked for beside others.
const PROBE_TIMEOUT: Duration = LEAST_TIME.saturating_mul(2);

/// The headers of an answer, and a few more.
const HEADERS: usize = 12;

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
    let finding = birthdays.date_of_birth(&username, hello.case, deadline);
    match finding.await {
        Ok(Some(born)) => {
            let days = days_to_birthday(born, hello.today(), hello.leap_day);
            let message = greeting(&username, days);
            answer(&Greeting { message })
        }
        Ok(None) | Err(_) if is_probe => Ok("OK".into_response()),
        Ok(None) => Err(Problem::new(
            Kind::NotFound,
            format!("User {username} not found"),
        )),
        Err(error) => Err(unavailable(error)),
    }
}

/// Returns an answer with room for the headers that the middleware adds: growing the table is a good
/// part of the work for such a short answer.
fn answer(greeting: &Greeting) -> Result<Response, Problem> {
    let body = serde_json::to_vec(greeting).map_err(|_error| Problem::internal())?;
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    Ok(response)
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
        let born = date_of_birth(body.get("dateOfBirth"), hello.today());
        match (username, born) {
            (Ok(username), Ok(born)) => Ok((username, born)),
            (username, born) => Err(username.err().into_iter().chain(born.err()).collect()),
        }
    };
    let invalid = config.services.validation_status;
    let (username, born) = read_object(&load_limit, request, invalid, read).await?;
    let deadline = Instant::now() + config.http.request_timeout;
    let storing = birthdays.put_date_of_birth(&username, hello.case, born, deadline);
    storing.await.map_err(unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse_username(path: Result<Path<String>, PathRejection>) -> Result<Username, Invalid> {
    match path {
        Ok(Path(text)) => Username::parse(&text),
        // What is percent-encoded is not UTF-8, and so no letters.
        Err(_rejection) => Username::parse(""),
    }
}

fn date_of_birth(value: Option<&Value>, today: Date) -> Result<Date, Invalid> {
    let invalid = |code, message: &str| Invalid::new("dateOfBirth", code, message);
    match value {
        Some(Value::String(text)) => parse_date_of_birth(text, today),
        Some(_) => Err(invalid(
            "not-a-string",
            "dateOfBirth must be a string, written YYYY-MM-DD",
        )),
        None => Err(invalid("required", "dateOfBirth is required")),
    }
}
