//! Fault injection into S3: selects the fault of each request from a seed, and counts faults.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Method;
use hyper::http::request::Parts;
use tokio::time::Instant;

use crate::seeded_rng::SeededRng;

/// Maximum number of log lines that an injector keeps: more than the requests of any history.
const MAX_LOG_LINES: usize = 20_000;

/// Maximum number of failed requests in a thousand if faults are sporadic: ten tries of one request
/// all fail in one of 170,000 cases.
pub const MAX_SPORADIC_PER_THOUSAND: u64 = 300;

/// Fault of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Fault {
    /// 503 `SlowDown`, without effect.
    SlowDown,
    /// 500 `InternalError`, without effect.
    InternalError,
    /// 400 `RequestTimeout`, without effect.
    RequestTimeout,
    /// 400 `ExpiredToken`, without effect.
    ExpiredToken,
    /// 403 `RequestTimeTooSkewed`, without effect: the host's clock is wrong.
    ClockSkew,
    /// Response delayed by this time, after the request took effect.
    LateAnswer(Duration),
    /// Write that takes effect after this time.
    LateWrite(Duration),
    /// Bodies limited to this many bytes per second, in both directions.
    SlowBody(u64),
    /// Connection closed after this percentage of the body, below its `Content-Length`.
    CutBody(u8),
    /// Connection closed without a response, after the request took effect.
    LostAnswer,
    /// Response 200 with an `<Error>` to `CompleteMultipartUpload`, without effect.
    ErrorIn200,
    /// The same, after the request took effect.
    ErrorIn200AfterEffect,
    /// LIST without objects that are newer than this.
    StaleList(Duration),
    /// Connection closed before the request is read.
    Refused,
    /// Request without a response.
    Unresponsive,
}

/// Kind of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// `GetObject`, with or without a range.
    Get,
    /// `HeadObject`.
    Head,
    /// `ListObjectsV2`.
    List,
    /// `PutObject`.
    Put,
    /// `DeleteObject`.
    Delete,
    /// `CreateMultipartUpload`.
    CreateMultipart,
    /// `UploadPart`.
    UploadPart,
    /// `CompleteMultipartUpload`.
    CompleteMultipart,
    /// `AbortMultipartUpload`.
    AbortMultipart,
    /// Other request.
    Other,
}

impl RequestKind {
    /// Returns the kind of a request.
    pub fn of(request: &Parts) -> Self {
        let query = request.uri.query().unwrap_or("");
        let has = |name: &str| {
            query
                .split('&')
                .any(|parameter| parameter.split('=').next() == Some(name))
        };
        match request.method {
            Method::GET if has("list-type") => Self::List,
            Method::GET => Self::Get,
            Method::HEAD => Self::Head,
            Method::PUT if has("uploadId") => Self::UploadPart,
            Method::PUT => Self::Put,
            Method::POST if has("uploads") => Self::CreateMultipart,
            Method::POST if has("uploadId") => Self::CompleteMultipart,
            Method::DELETE if has("uploadId") => Self::AbortMultipart,
            Method::DELETE => Self::Delete,
            _ => Self::Other,
        }
    }

    /// Tests whether it changes stored objects.
    pub fn is_write(self) -> bool {
        !matches!(self, Self::Get | Self::Head | Self::List | Self::Other)
    }
}

/// Faults of a store for some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultProfile {
    /// Faults, each with its number of requests in a thousand.
    pub chances: Vec<(S3Fault, u64)>,
    /// Maximum number of requests per second; those above meet [`S3Fault::SlowDown`].
    pub most_per_second: Option<u32>,
}

impl FaultProfile {
    /// Tests whether faults are sporadic: most requests succeed, and so does the retry of a failed
    /// one.
    pub fn is_sporadic(&self) -> bool {
        let together: u64 = self.chances.iter().map(|(_, chance)| chance).sum();
        self.most_per_second.is_none() && together <= MAX_SPORADIC_PER_THOUSAND
    }

    /// Returns a profile in which every request meets `fault`.
    pub fn always(fault: S3Fault) -> Self {
        Self {
            chances: vec![(fault, 1_000)],
            most_per_second: None,
        }
    }
}

impl fmt::Display for FaultProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (fault, chance)) in self.chances.iter().enumerate() {
            let comma = if number == 0 { "" } else { ", " };
            write!(f, "{comma}{fault:?} for {chance} of 1000")?;
        }
        match self.most_per_second {
            Some(most) => write!(f, "at most {most} requests a second"),
            None => Ok(()),
        }
    }
}

/// Fault injector: selects the fault of each request, and logs it.
#[derive(Debug)]
pub struct FaultInjector {
    seed: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    began: Instant,
    profile: Option<(FaultProfile, Option<Instant>)>,
    counts: BTreeMap<RequestKind, u64>,
    faults: u64,
    second: (u64, u32),
    created: BTreeMap<String, Instant>,
    log: Vec<String>,
}

impl FaultInjector {
    /// Creates the injector of a seed, without faults.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            state: Mutex::new(State {
                began: Instant::now(),
                profile: None,
                counts: BTreeMap::new(),
                faults: 0,
                second: (0, 0),
                created: BTreeMap::new(),
                log: Vec::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Injects the faults of `profile`, for the time `lasts` or until healed.
    pub fn fail(&self, profile: FaultProfile, lasts: Option<Duration>) {
        let mut state = self.state();
        let lasting = lasts.map_or("until healed".to_owned(), |duration| {
            format!("for {duration:?}")
        });
        state.append_log(&format!("-- {profile}, {lasting}"));
        let until = lasts.map(|duration| Instant::now() + duration);
        state.profile = Some((profile, until));
    }

    /// Ends the faults.
    pub fn heal(&self) {
        let mut state = self.state();
        if state.profile.take().is_some() {
            state.append_log("-- healed");
        }
    }

    /// Tests whether requests fail now, other than sporadically.
    pub fn is_failing(&self) -> bool {
        let mut state = self.state();
        state
            .active_profile()
            .is_some_and(|profile| !profile.is_sporadic())
    }

    /// Returns the number of requests of a kind.
    pub fn count(&self, kind: RequestKind) -> u64 {
        self.state().counts.get(&kind).copied().unwrap_or(0)
    }

    /// Returns the number of requests that met a fault that was not sporadic.
    pub fn faults(&self) -> u64 {
        self.state().faults
    }

    /// Returns the log: one line per request.
    pub fn log(&self) -> String {
        self.state().log.join("\n")
    }

    /// Selects the fault of a request.
    pub(super) fn select_fault(&self, kind: RequestKind, request: &Parts) -> Option<S3Fault> {
        let mut state = self.state();
        let number = state.counts.entry(kind).or_insert(0);
        *number += 1;
        let number = *number;
        let fault = state.select_fault(self.seed, kind, number);
        let is_sporadic = state
            .active_profile()
            .is_some_and(FaultProfile::is_sporadic);
        if fault.is_some() && !is_sporadic {
            state.faults += 1;
        }
        let fault_text = fault.map_or("no fault".to_owned(), |fault| format!("{fault:?}"));
        let line = format!("{kind:?} {number} {}: {fault_text}", request.uri);
        state.append_log(&line);
        fault
    }

    /// Records the time at which an object is stored.
    pub(super) fn record_creation(&self, path: &str) {
        let now = Instant::now();
        self.state().created.insert(path.to_owned(), now);
    }

    /// Returns the paths of objects newer than `age`, and of all others stored since this injector
    /// was created.
    pub(super) fn paths_by_age(&self, age: Duration) -> (Vec<String>, Vec<String>) {
        let state = self.state();
        let mut new = Vec::new();
        let mut old = Vec::new();
        for (path, created_at) in &state.created {
            if created_at.elapsed() < age {
                new.push(path.clone());
            } else {
                old.push(path.clone());
            }
        }
        (new, old)
    }
}

impl State {
    fn active_profile(&mut self) -> Option<&FaultProfile> {
        if let Some((_, Some(until))) = &self.profile
            && *until <= Instant::now()
        {
            self.profile = None;
            self.append_log("-- ended");
        }
        self.profile.as_ref().map(|(profile, _until)| profile)
    }

    fn select_fault(&mut self, seed: u64, kind: RequestKind, number: u64) -> Option<S3Fault> {
        let second = self.began.elapsed().as_secs();
        let (of, so_far) = self.second;
        let so_far = if of == second { so_far + 1 } else { 1 };
        self.second = (second, so_far);
        let profile = self.active_profile()?;
        if profile.most_per_second.is_some_and(|most| so_far > most) {
            return Some(S3Fault::SlowDown);
        }
        // By kind and number: the faults of concurrent requests do not depend on their order.
        let of_kind = (kind as u64 + 1).wrapping_mul(0x1000_0000_01b3);
        let mut rng = SeededRng::new(seed ^ of_kind ^ (number << 20));
        let mut left = rng.below(1_000);
        for (fault, chance) in &profile.chances {
            if left < *chance {
                return Some(*fault).filter(|fault| fault.applies_to(kind));
            }
            left -= chance;
        }
        None
    }

    fn append_log(&mut self, line: &str) {
        if self.log.len() < MAX_LOG_LINES {
            let at = self.began.elapsed().as_secs_f64();
            self.log.push(format!("{at:9.3} s  {line}"));
        }
    }
}

impl S3Fault {
    fn applies_to(self, kind: RequestKind) -> bool {
        match self {
            Self::ErrorIn200 | Self::ErrorIn200AfterEffect => {
                kind == RequestKind::CompleteMultipart
            }
            Self::StaleList(_) => kind == RequestKind::List,
            Self::CutBody(_) => matches!(kind, RequestKind::Get | RequestKind::List),
            Self::LateWrite(_) => kind.is_write(),
            Self::SlowDown
            | Self::InternalError
            | Self::RequestTimeout
            | Self::ExpiredToken
            | Self::ClockSkew
            | Self::LateAnswer(_)
            | Self::SlowBody(_)
            | Self::LostAnswer
            | Self::Refused
            | Self::Unresponsive => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn put() -> Parts {
        let (parts, ()) = Request::put("/bucket/key").body(()).unwrap().into_parts();
        parts
    }

    #[test]
    fn same_seed_then_same_faults_under_concurrency() {
        let profile = || FaultProfile {
            chances: vec![(S3Fault::SlowDown, 300), (S3Fault::LostAnswer, 300)],
            most_per_second: None,
        };
        let fates = |beside: bool| {
            let injector = FaultInjector::new(7);
            injector.fail(profile(), None);
            let fates = (0..50).map(|_| {
                if beside {
                    injector.select_fault(RequestKind::Get, &put());
                }
                injector.select_fault(RequestKind::Put, &put())
            });
            fates.collect::<Vec<_>>()
        };
        let alone = fates(false);
        assert_eq!(alone, fates(true));
        assert!(alone.contains(&None) && alone.contains(&Some(S3Fault::LostAnswer)));
    }

    #[test]
    fn fault_of_other_request_kind_then_no_fault() {
        let injector = FaultInjector::new(1);
        injector.fail(FaultProfile::always(S3Fault::ErrorIn200), None);
        assert_eq!(injector.select_fault(RequestKind::Put, &put()), None);
        let complete = injector.select_fault(RequestKind::CompleteMultipart, &put());
        assert_eq!(complete, Some(S3Fault::ErrorIn200));
        assert_eq!(
            (injector.faults(), injector.count(RequestKind::Put)),
            (1, 1)
        );
        injector.heal();
        assert_eq!(
            injector.select_fault(RequestKind::CompleteMultipart, &put()),
            None
        );
        assert!(!injector.is_failing());
    }
}
