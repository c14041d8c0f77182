//! Fault injection into S3: which request meets which fault, as a seed decides, and what was counted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::Method;
use hyper::http::request::Parts;
use tokio::time::Instant;

use crate::seeded_rng::SeededRng;

/// How many lines of its log an injector keeps: more than the requests of any history.
const LOG_LINES: usize = 20_000;

/// Of a thousand requests, how many fail at most where faults are sporadic: of ten tries of one request
/// all fail in one of 170,000 cases.
pub const SPORADIC: u64 = 300;

/// What goes wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum S3Fault {
    /// 503 `SlowDown`, and not carried out.
    SlowDown,
    /// 500 `InternalError`, and not carried out.
    InternalError,
    /// 400 `RequestTimeout`, and not carried out.
    RequestTimeout,
    /// 400 `ExpiredToken`, and not carried out.
    ExpiredToken,
    /// 403 `RequestTimeTooSkewed`, and not carried out: the host's clock is wrong.
    ClockSkew,
    /// Carried out, and answered so much later.
    LateAnswer(Duration),
    /// A write is carried out so much later: slow, and not down.
    LateWrite(Duration),
    /// Bodies come and go at so many bytes a second.
    SlowBody(u64),
    /// The connection ends after so many percent of the body, of which `Content-Length` says more.
    CutBody(u8),
    /// Carried out, and the connection ends without an answer.
    LostAnswer,
    /// `CompleteMultipartUpload` answers 200 with an `<Error>`, and is not carried out.
    ErrorIn200,
    /// The same, and it is carried out.
    ErrorIn200AfterEffect,
    /// LIST does not show what is newer than this.
    StaleList(Duration),
    /// The connection ends before the request is read.
    Refused,
    /// The request is never answered.
    Silent,
}

/// What kind of request it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RequestKind {
    /// `GetObject`, whole or in part.
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
    /// Anything else.
    Other,
}

impl RequestKind {
    /// Returns the kind of a request.
    pub fn of(request: &Parts) -> Self {
        let query = request.uri.query().unwrap_or_default();
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

    /// Tests whether it changes what is stored.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Get | Self::Head | Self::List | Self::Other)
    }
}

/// How a store fails for a while.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FaultProfile {
    /// Of a thousand requests, how many meet which fault.
    pub chances: Vec<(S3Fault, u64)>,
    /// Above so many requests within a second, the rest meets [`S3Fault::SlowDown`].
    pub most_per_second: Option<u32>,
}

impl FaultProfile {
    /// Tests whether most requests are served well, and one that fails is served well when it is tried
    /// again.
    pub fn is_sporadic(&self) -> bool {
        let together: u64 = self.chances.iter().map(|(_, chance)| chance).sum();
        self.most_per_second.is_none() && together <= SPORADIC
    }

    /// Returns the profile in which every request meets `fault`.
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

/// Decides the fate of each request, and remembers it.
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
    /// Returns the injector of a seed, which injects nothing yet.
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

    /// Fails as `profile` says from now on, for as long as `lasts`, or until it is healed.
    pub fn fail(&self, profile: FaultProfile, lasts: Option<Duration>) {
        let mut state = self.state();
        let lasting = lasts.map_or("until healed".to_owned(), |duration| {
            format!("for {duration:?}")
        });
        state.note(&format!("-- {profile}, {lasting}"));
        let until = lasts.map(|duration| Instant::now() + duration);
        state.profile = Some((profile, until));
    }

    /// Fails no more.
    pub fn heal(&self) {
        let mut state = self.state();
        if state.profile.take().is_some() {
            state.note("-- healed");
        }
    }

    /// Tests whether requests fail now, and not only here and there.
    pub fn fails(&self) -> bool {
        let mut state = self.state();
        state
            .in_force()
            .is_some_and(|profile| !profile.is_sporadic())
    }

    /// Returns how many requests of a kind came so far.
    pub fn count(&self, kind: RequestKind) -> u64 {
        self.state().counts.get(&kind).copied().unwrap_or(0)
    }

    /// Returns how many requests met a fault so far that was not sporadic.
    pub fn faults(&self) -> u64 {
        self.state().faults
    }

    /// Returns the fate of every request so far, a line each.
    pub fn log(&self) -> String {
        self.state().log.join("\n")
    }

    /// Decides what a request meets.
    pub(super) fn decide(&self, kind: RequestKind, request: &Parts) -> Option<S3Fault> {
        let mut state = self.state();
        let number = state.counts.entry(kind).or_insert(0);
        *number += 1;
        let number = *number;
        let fate = state.fate(self.seed, kind, number);
        let is_sporadic = state.in_force().is_some_and(FaultProfile::is_sporadic);
        if fate.is_some() && !is_sporadic {
            state.faults += 1;
        }
        let fate_text = fate.map_or("well".to_owned(), |fate| format!("{fate:?}"));
        let line = format!("{kind:?} {number} {}: {fate_text}", request.uri);
        state.note(&line);
        fate
    }

    /// Notes that an object is new.
    pub(super) fn created(&self, path: &str) {
        let now = Instant::now();
        self.state().created.insert(path.to_owned(), now);
    }

    /// Returns the paths of the objects that are newer than `age`, and of all the others that were
    /// stored while this injector was there.
    pub(super) fn by_age(&self, age: Duration) -> (Vec<String>, Vec<String>) {
        let state = self.state();
        let is_new = |at: &Instant| at.elapsed() < age;
        let (new, old): (Vec<_>, Vec<_>) = state.created.iter().partition(|(_, at)| is_new(at));
        let keys =
            |it: Vec<(&String, &Instant)>| it.into_iter().map(|value| value.0.clone()).collect();
        (keys(new), keys(old))
    }
}

impl State {
    fn in_force(&mut self) -> Option<&FaultProfile> {
        if let Some((_, Some(until))) = &self.profile
            && *until <= Instant::now()
        {
            self.profile = None;
            self.note("-- over");
        }
        self.profile.as_ref().map(|(profile, _)| profile)
    }

    fn fate(&mut self, seed: u64, kind: RequestKind, number: u64) -> Option<S3Fault> {
        let second = self.began.elapsed().as_secs();
        let (of, so_far) = self.second;
        let so_far = if of == second { so_far + 1 } else { 1 };
        self.second = (second, so_far);
        let profile = self.in_force()?;
        if profile.most_per_second.is_some_and(|most| so_far > most) {
            return Some(S3Fault::SlowDown);
        }
        // By kind and number, so that requests beside each other do not change each other's fate.
        let of_kind = (kind as u64 + 1).wrapping_mul(0x1000_0000_01b3);
        let mut rng = SeededRng::new(seed ^ of_kind ^ (number << 20));
        let mut left = rng.below(1_000);
        for (fault, chance) in &profile.chances {
            if left < *chance {
                return Some(*fault).filter(|value| value.concerns(kind));
            }
            left -= chance;
        }
        None
    }

    fn note(&mut self, line: &str) {
        if self.log.len() < LOG_LINES {
            let at = self.began.elapsed().as_secs_f64();
            self.log.push(format!("{at:9.3} s  {line}"));
        }
    }
}

impl S3Fault {
    fn concerns(self, kind: RequestKind) -> bool {
        match self {
            Self::ErrorIn200 | Self::ErrorIn200AfterEffect => {
                kind == RequestKind::CompleteMultipart
            }
            Self::StaleList(_) => kind == RequestKind::List,
            Self::CutBody(_) => matches!(kind, RequestKind::Get | RequestKind::List),
            Self::LateWrite(_) => kind.writes(),
            Self::SlowDown
            | Self::InternalError
            | Self::RequestTimeout
            | Self::ExpiredToken
            | Self::ClockSkew
            | Self::LateAnswer(_)
            | Self::SlowBody(_)
            | Self::LostAnswer
            | Self::Refused
            | Self::Silent => true,
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
    fn same_seed_then_same_fates_whatever_comes_beside() {
        let profile = || FaultProfile {
            chances: vec![(S3Fault::SlowDown, 300), (S3Fault::LostAnswer, 300)],
            most_per_second: None,
        };
        let fates = |beside: bool| {
            let injector = FaultInjector::new(7);
            injector.fail(profile(), None);
            let fates = (0..50).map(|_| {
                if beside {
                    injector.decide(RequestKind::Get, &put());
                }
                injector.decide(RequestKind::Put, &put())
            });
            fates.collect::<Vec<_>>()
        };
        let alone = fates(false);
        assert_eq!(alone, fates(true));
        assert!(alone.contains(&None) && alone.contains(&Some(S3Fault::LostAnswer)));
    }

    #[test]
    fn fault_that_concerns_another_kind_then_well() {
        let injector = FaultInjector::new(1);
        injector.fail(FaultProfile::always(S3Fault::ErrorIn200), None);
        assert_eq!(injector.decide(RequestKind::Put, &put()), None);
        let complete = injector.decide(RequestKind::CompleteMultipart, &put());
        assert_eq!(complete, Some(S3Fault::ErrorIn200));
        assert_eq!(
            (injector.faults(), injector.count(RequestKind::Put)),
            (1, 1)
        );
        injector.heal();
        assert_eq!(
            injector.decide(RequestKind::CompleteMultipart, &put()),
            None
        );
        assert!(!injector.fails());
    }
}
