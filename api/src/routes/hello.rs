//! `/hello/{username}`: who was born when, and when they are to be congratulated.

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

use crate::App;
use crate::body::read_object;
use crate::config::Hello;
use crate::domain::{Invalid, Username, days_to_birthday, greeting, parse_date_of_birth};
use crate::problem::{Kind, Problem};
use crate::routes::problems::unavailable;
use crate::store::birthdays::LEAST_TIME;

/// One service's liveness probe is a greeting of this name. A person may have it all the same.
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
pub(super) async fn get(
    State(app): State<App>,
    username: Result<Path<String>, PathRejection>,
) -> Result<Response, Problem> {
    let broken = |broken| Problem::invalid(app.validation_status, &[broken]);
    let username = parse_username(username).map_err(broken)?;
    let is_probe = username.as_str() == PROBE;
    let budget = if is_probe {
        PROBE_TIMEOUT.min(app.request_timeout)
    } else {
        app.request_timeout
    };
    let deadline = Instant::now() + budget;
    let found = app
        .birthdays
        .date_of_birth(&username, app.hello.case, deadline)
        .await;
    match found {
        Ok(Some(born)) => {
            let days = days_to_birthday(born, today(&app.hello), app.hello.leap_day);
            let message = greeting(&username, days);
            Ok(answer(&Greeting { message }))
        }
        Ok(None) | Err(_) if is_probe => Ok("OK".into_response()),
        Ok(None) => Err(Problem::new(
            Kind::NotFound,
            format!("User {username} not found"),
        )),
        Err(why) => Err(unavailable(why)),
    }
}

/// Returns an answer with room for the headers that the edge adds: a table that grows is a good part of
/// the work for such a short one.
fn answer(greeting: &Greeting) -> Response {
    // A string always becomes JSON.
    let body = serde_json::to_vec(greeting).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    let json = HeaderValue::from_static("application/json");
    headers.insert(header::CONTENT_TYPE, json);
    response
}

/// Stores a person's date of birth.
pub(super) async fn put(
    State(app): State<App>,
    username: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let username = parse_username(username);
    let read = |body: &Map<String, Value>| {
        let born = date_of_birth(body.get("dateOfBirth"), today(&app.hello));
        match (username, born) {
            (Ok(username), Ok(born)) => Ok((username, born)),
            (username, born) => Err(username.err().into_iter().chain(born.err()).collect()),
        }
    };
    let (username, born) = read_object(&app, request, app.validation_status, read).await?;
    let deadline = Instant::now() + app.request_timeout;
    app.birthdays
        .put_date_of_birth(&username, app.hello.case, born, deadline)
        .await
        .map_err(unavailable)?;
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

/// The one function that says which day it is, for what is stored and for what is read.
pub(super) fn today(hello: &Hello) -> Date {
    hello.calendar.day_at(causeway_runtime::clock::wall())
}
