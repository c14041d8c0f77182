//! Checker of the API's responses under load: wrong responses, needless rejections, duplicate and
//! lost rows.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio_postgres::Client;

use super::api_request::{ApiResponse, LoadRequest, RequestOutcome, age, email, name};
use crate::workload::rows::{date_of_birth, username};

/// Time for which the API retries (`REQUEST_TIMEOUT`, 8 s). An earlier rejection is needless,
/// unless it is by load shedding.
const RETRY_TIMEOUT: Duration = Duration::from_millis(7_500);

/// Timeout of the API to find a new primary once that accepts writes: the time for which it
/// retries. How much faster it is depends on the machine, and is printed.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(8);

/// Problem type of load shedding, which does not depend on the database.
const OVERLOADED: &str = "/problems/overloaded";

/// Result of the load.
#[derive(Clone, Debug, Default)]
pub struct ApiCheckResult {
    /// Number of requests.
    pub sent: usize,
    /// Number of expected responses.
    pub right: usize,
    /// Number of rejections with `Retry-After`.
    pub told_to_retry: usize,
    /// Number of rejections by load shedding.
    pub overloaded: usize,
    /// Number of requests without a response: their instance was lost.
    pub unanswered: usize,
    /// Number of lost acknowledged rows.
    pub lost: usize,
    /// Time to the API's first acknowledged write, once the new primary accepted writes and the
    /// clients had found an instance that can reach it.
    pub found_after: Option<Duration>,
    /// Violations, one sentence each.
    pub failures: Vec<String>,
}

/// Expectation of the API under load.
#[derive(Clone, Copy, Debug)]
pub struct ApiExpectation {
    /// Whether an instance of the API is lost with the fault.
    pub an_instance_is_lost: bool,
    /// Time at which the new primary first accepted a write, if there was a new one.
    pub writable_again: Option<Duration>,
}

/// Rows of the load in the database, with their counts.
#[derive(Debug, Default)]
pub struct StoredRows(BTreeMap<String, usize>);

impl StoredRows {
    /// Reads the stored rows.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn read(primary: &Client) -> Result<Self, tokio_postgres::Error> {
        let all = "select 'birthday ' || username || ' ' || date_of_birth from hello_users
            union all select 'member ' || name || ' ' || age from members
            union all select 'user ' || name || ' ' || email from users
            union all select 'beer ' || name || ' ' || abv from beers";
        let mut stored = Self::default();
        for row in primary.query(all, &[]).await? {
            *stored.0.entry(row.try_get(0)?).or_default() += 1;
        }
        Ok(stored)
    }

    fn has(&self, row: &str) -> bool {
        self.0.contains_key(row)
    }
}

impl LoadRequest {
    /// Returns the row that a request writes or reads, as in [`StoredRows`].
    fn row(&self) -> String {
        match self {
            Self::PutBirthday(number) | Self::GetBirthday(number) => {
                format!("birthday {} {}", username(*number), date_of_birth(*number))
            }
            Self::PostMember(number) => format!("member {} {}", name(*number), age(*number)),
            Self::PostUser(number) | Self::GetUser(number, _) => {
                format!("user {} {}", name(*number), email(*number))
            }
            Self::PostBeer(number) => format!("beer {} 5.00", name(*number)),
        }
    }

    fn writes(&self) -> bool {
        !matches!(self, Self::GetBirthday(_) | Self::GetUser(..))
    }

    /// Tests whether a body has the values that the request wrote or reads.
    fn is_answered_by(&self, answer: &ApiResponse) -> bool {
        let text = |name: &str| answer.body.get(name).and_then(|body| body.as_str());
        match self {
            Self::PutBirthday(_) => true,
            Self::GetBirthday(number) => {
                let greeting = format!("Hello, {}! ", username(*number));
                text("message").is_some_and(|text| text.starts_with(&greeting))
            }
            Self::PostMember(number) => {
                text("Name") == Some(&name(*number))
                    && answer.body.get("Age").and_then(serde_json::Value::as_u64)
                        == Some(age(*number))
            }
            Self::PostUser(number) | Self::GetUser(number, _) => {
                text("name") == Some(&name(*number)) && text("email") == Some(&email(*number))
            }
            Self::PostBeer(number) => text("name") == Some(&name(*number)),
        }
    }
}

/// Compares the response to every request with the rows that are stored at the end.
pub fn check_api(
    outcomes: &[RequestOutcome],
    stored: &StoredRows,
    expectation: ApiExpectation,
) -> ApiCheckResult {
    let lost: BTreeSet<String> = outcomes
        .iter()
        .filter(|outcome| outcome.request.writes() && outcome.is_acknowledged())
        .map(|outcome| outcome.request.row())
        .filter(|outcome| !stored.has(outcome))
        .collect();
    let mut result = ApiCheckResult {
        sent: outcomes.len(),
        lost: lost.len(),
        ..ApiCheckResult::default()
    };
    for outcome in outcomes {
        result.check_outcome(outcome, &lost, expectation);
    }
    for (row, times) in &stored.0 {
        if *times > 1 {
            result
                .failures
                .push(format!("`{row}` is stored {times} times"));
        }
    }
    if let Some(writable) = expectation.writable_again {
        result.check_recovery(outcomes, writable);
    }
    result
}

impl ApiCheckResult {
    fn check_outcome(
        &mut self,
        outcome: &RequestOutcome,
        lost: &BTreeSet<String>,
        expectation: ApiExpectation,
    ) {
        let request = &outcome.request;
        let took = outcome.ended.saturating_sub(outcome.sent);
        let wrong = match &outcome.answer {
            Ok(answer) if answer.status == request.expected() => {
                self.right += 1;
                let is_right = request.is_answered_by(answer);
                (!is_right).then(|| format!("answered with {}", answer.body))
            }
            Ok(answer) if answer.status == 503 => {
                let is_overload = answer
                    .body
                    .get("type")
                    .is_some_and(|body| body == OVERLOADED);
                self.told_to_retry += 1;
                self.overloaded += usize::from(is_overload);
                if !answer.says_when_to_retry {
                    Some("rejected without `Retry-After`".to_owned())
                } else if took < RETRY_TIMEOUT && !is_overload {
                    Some(format!("rejected after {took:.1?}: {}", answer.body))
                } else {
                    None
                }
            }
            // A lost row cannot be read, and its ID may belong to another row.
            Ok(_) if lost.contains(&request.row()) => None,
            Ok(answer) => Some(format!("answered {}: {}", answer.status, answer.body)),
            Err(why) => {
                self.unanswered += 1;
                (!expectation.an_instance_is_lost).then(|| format!("not answered: {why}"))
            }
        };
        if let Some(wrong) = wrong
            && !lost.contains(&request.row())
        {
            self.failures.push(format!("{request:?} was {wrong}"));
        }
    }

    /// Checks how soon the API wrote again once a primary accepted writes. An instance that the DNS
    /// name pointed to only later is checked from its first request.
    fn check_recovery(&mut self, outcomes: &[RequestOutcome], writable: Duration) {
        let acknowledged = outcomes.iter().filter(|outcome| {
            outcome.request.writes() && outcome.is_acknowledged() && outcome.ended >= writable
        });
        self.found_after = acknowledged.min_by_key(|row| row.ended).map(|first| {
            let of_it = outcomes
                .iter()
                .filter(|outcome| outcome.instance == first.instance);
            let asked = of_it.map(|outcome| outcome.sent).min();
            let asked = asked.unwrap_or(first.sent);
            first.ended.saturating_sub(writable.max(asked))
        });
        if self
            .found_after
            .is_none_or(|duration| duration > RECOVERY_TIMEOUT)
        {
            self.failures.push(format!(
                "the API wrote again {:?} after the new primary accepted writes, and \
                 {RECOVERY_TIMEOUT:?} are the limit",
                self.found_after
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const STEADY: ApiExpectation = ApiExpectation {
        an_instance_is_lost: false,
        writable_again: None,
    };

    #[test]
    fn correct_responses_and_rows_then_passed() {
        let outcomes = [
            answered(LoadRequest::PostUser(7), 0, 200, user(7)),
            answered(LoadRequest::GetUser(7, 1), 0, 200, user(7)),
            answered(LoadRequest::PutBirthday(8), 0, 204, Value::Null),
        ];
        let result = check_api(&outcomes, &stored_of(&outcomes), STEADY);

        assert_eq!((result.right, result.lost), (3, 0));
        assert_eq!(result.failures, Vec::<String>::new());
    }

    #[test]
    fn wrong_responses_then_found() {
        let member = json!({ "Name": "load 1", "Age": 2 });
        let wrong = [
            answered(LoadRequest::PostMember(1), 0, 200, member),
            answered(LoadRequest::GetUser(7, 1), 0, 200, user(8)),
            answered(LoadRequest::GetUser(7, 1), 0, 404, Value::Null),
            answered(LoadRequest::PostBeer(1), 0, 500, Value::Null),
            answered(LoadRequest::PostBeer(2), 100, 503, Value::Null),
            RequestOutcome {
                answer: Err("reset".to_owned()),
                ..answered(LoadRequest::PostBeer(3), 0, 0, Value::Null)
            },
        ];
        for outcome in wrong {
            let stored = stored_of(std::slice::from_ref(&outcome));
            let result = check_api(std::slice::from_ref(&outcome), &stored, STEADY);
            assert_eq!(result.failures.len(), 1, "{outcome:?}");
        }
    }

    #[test]
    fn row_stored_twice_or_lost_then_found() {
        let outcomes = [
            answered(LoadRequest::PostUser(7), 0, 200, user(7)),
            answered(
                LoadRequest::PostBeer(9),
                0,
                201,
                json!({ "name": "load 9" }),
            ),
        ];
        let mut stored = stored_of(&outcomes[1..]);
        stored.0.insert("beer load 9 5.00".to_owned(), 2);
        let result = check_api(&outcomes, &stored, STEADY);

        assert_eq!(result.lost, 1);
        assert_eq!(result.failures, ["`beer load 9 5.00` is stored 2 times"]);
    }

    #[test]
    fn rejected_at_timeout_then_passed_late_recovery_then_failed() {
        let refused = answered(LoadRequest::PostBeer(2), 8_000, 503, Value::Null);
        let written = answered(LoadRequest::PutBirthday(8), 9_000, 204, Value::Null);
        let outcomes = [refused, written];
        let since = |millis| ApiExpectation {
            writable_again: Some(Duration::from_millis(millis)),
            ..STEADY
        };

        let stored = stored_of(&outcomes);
        assert!(
            check_api(&outcomes, &stored, since(1_100))
                .failures
                .is_empty()
        );
        assert_eq!(check_api(&outcomes, &stored, since(900)).failures.len(), 1);
    }

    #[test]
    fn overloaded_then_rejection_allowed_and_counted() {
        let overloaded = json!({ "type": OVERLOADED });
        let outcome = answered(LoadRequest::PostBeer(2), 100, 503, overloaded);
        let stored = stored_of(std::slice::from_ref(&outcome));

        let result = check_api(std::slice::from_ref(&outcome), &stored, STEADY);
        assert_eq!((result.told_to_retry, result.overloaded), (1, 1));
        assert_eq!(result.failures, Vec::<String>::new());
    }

    fn answered(
        request: LoadRequest,
        took_millis: u64,
        status: u16,
        body: Value,
    ) -> RequestOutcome {
        RequestOutcome {
            request,
            instance: None,
            sent: Duration::ZERO,
            ended: Duration::from_millis(took_millis),
            answer: Ok(ApiResponse {
                status,
                says_when_to_retry: true,
                body,
            }),
        }
    }

    fn user(number: u64) -> Value {
        json!({ "id": 1, "name": name(number), "email": email(number) })
    }

    fn stored_of(outcomes: &[RequestOutcome]) -> StoredRows {
        StoredRows(
            outcomes
                .iter()
                .map(|outcome| (outcome.request.row(), 1))
                .collect(),
        )
    }
}
