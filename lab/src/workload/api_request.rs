//! Requests of the load, in turn: every surface of the API is written and read.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};

use crate::workload::rows::{date_of_birth, username};

/// First number of the load's rows, apart from the writers'.
const FIRST: u64 = 1 << 50;

/// Request of the load. Its number determines all of its values, and no other request has the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoadRequest {
    /// Stores a birthday.
    PutBirthday(u64),
    /// Reads an acknowledged birthday.
    GetBirthday(u64),
    /// Stores a member.
    PostMember(u64),
    /// Stores a user.
    PostUser(u64),
    /// Reads an acknowledged user by its ID.
    GetUser(u64, i64),
    /// Stores a beer.
    PostBeer(u64),
}

/// Outcome of a request.
#[derive(Clone, Debug)]
pub struct RequestOutcome {
    /// Request.
    pub request: LoadRequest,
    /// Instance of the API, if its name was resolved.
    pub instance: Option<IpAddr>,
    /// Send time.
    pub sent: Duration,
    /// Time of the response or the timeout.
    pub ended: Duration,
    /// Response, or the reason for its absence.
    pub answer: Result<ApiResponse, String>,
}

/// Response of the API.
#[derive(Clone, Debug)]
pub struct ApiResponse {
    /// Status.
    pub status: u16,
    /// Whether it has `Retry-After`.
    pub says_when_to_retry: bool,
    /// Body, if it is JSON.
    pub body: Value,
}

impl RequestOutcome {
    /// Tests whether the response is the expected one.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.status() == Some(self.request.expected())
    }

    /// Returns the stored user and its ID.
    pub(crate) fn user(&self) -> Option<(u64, i64)> {
        match (&self.request, &self.answer) {
            (LoadRequest::PostUser(number), Ok(answer)) => {
                Some((*number, answer.body.get("id")?.as_i64()?))
            }
            _ => None,
        }
    }

    /// Returns the stored birthday.
    pub(crate) fn birthday(&self) -> Option<u64> {
        match self.request {
            LoadRequest::PutBirthday(number) => Some(number),
            LoadRequest::GetBirthday(_)
            | LoadRequest::PostMember(_)
            | LoadRequest::PostUser(_)
            | LoadRequest::GetUser(..)
            | LoadRequest::PostBeer(_) => None,
        }
    }

    fn status(&self) -> Option<u16> {
        self.answer.as_ref().ok().map(|answer| answer.status)
    }
}

/// Generator of requests.
#[derive(Debug, Default)]
pub(crate) struct RequestGenerator {
    made: u64,
}

impl RequestGenerator {
    /// Returns the next request. Reads are of rows acknowledged in `outcomes`.
    pub(crate) fn next(&mut self, outcomes: &[RequestOutcome]) -> LoadRequest {
        self.made += 1;
        let number = FIRST + self.made;
        // A multiplicative hash spreads the reads over all acknowledged rows.
        let any = usize::try_from(self.made.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40).unwrap_or(0);
        let (before, after) = outcomes.split_at(any % outcomes.len().max(1));
        let known = after.iter().chain(before);
        let mut known = known.filter(|outcome| outcome.is_acknowledged());
        match self.made % 6 {
            0 => LoadRequest::PostMember(number),
            1 => LoadRequest::PostUser(number),
            2 => LoadRequest::PostBeer(number),
            3 => known
                .find_map(RequestOutcome::user)
                .map_or(LoadRequest::PostUser(number), |(number, id)| {
                    LoadRequest::GetUser(number, id)
                }),
            4 => known
                .find_map(RequestOutcome::birthday)
                .map_or(LoadRequest::PutBirthday(number), LoadRequest::GetBirthday),
            _ => LoadRequest::PutBirthday(number),
        }
    }
}

impl LoadRequest {
    /// Returns the HTTP request to the API at `api`.
    pub(crate) fn to_http(&self, api: SocketAddr) -> anyhow::Result<hyper::Request<String>> {
        let (method, path, body) = match self {
            Self::PutBirthday(number) => (
                Method::PUT,
                format!("/hello/{}", username(*number)),
                Some(json!({ "dateOfBirth": date_of_birth(*number).to_string() })),
            ),
            Self::GetBirthday(number) => {
                (Method::GET, format!("/hello/{}", username(*number)), None)
            }
            Self::PostMember(number) => (
                Method::POST,
                "/members".to_owned(),
                Some(json!({ "name": name(*number), "age": age(*number) })),
            ),
            Self::PostUser(number) => (
                Method::POST,
                "/users".to_owned(),
                Some(json!({ "name": name(*number), "email": email(*number) })),
            ),
            Self::GetUser(_number, id) => (Method::GET, format!("/users/{id}"), None),
            Self::PostBeer(number) => (
                Method::POST,
                "/beers".to_owned(),
                Some(json!({ "name": name(*number), "style": "Lager", "abv": "5.0%" })),
            ),
        };
        let body = body.map_or_else(String::new, |json| json.to_string());
        Ok(hyper::Request::builder()
            .method(method)
            .uri(format!("http://{api}{path}"))
            .header("content-type", "application/json")
            .body(body)?)
    }

    /// Returns the status of the expected response.
    pub fn expected(&self) -> u16 {
        match self {
            Self::PutBirthday(_) => 204,
            Self::PostBeer(_) => 201,
            Self::GetBirthday(_) | Self::PostMember(_) | Self::PostUser(_) | Self::GetUser(..) => {
                200
            }
        }
    }
}

/// Returns the name of a member, user or beer with this number.
pub(crate) fn name(number: u64) -> String {
    format!("load {number}")
}

/// Returns the age of a member.
pub(crate) fn age(number: u64) -> u64 {
    number % 100
}

/// Returns the email of a user.
pub(crate) fn email(number: u64) -> String {
    format!("load-{number}@example.test")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_outcome_yet_then_every_surface_written() {
        let mut requests = RequestGenerator::default();
        let made: Vec<LoadRequest> = (0..6).map(|_| requests.next(&[])).collect();
        let statuses: Vec<u16> = made.iter().map(LoadRequest::expected).collect();

        assert_eq!(statuses, [200, 201, 200, 204, 204, 200]);
        for request in &made {
            request.to_http("127.0.0.1:1".parse().unwrap()).unwrap();
        }
    }
}
