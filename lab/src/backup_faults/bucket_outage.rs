//! Outage of a bucket, generated from a seed, as a profile for the fault injector.

use std::fmt;
use std::time::Duration;

use crate::aws::s3_faults::{FaultProfile, MAX_SPORADIC_PER_THOUSAND, S3Fault};
use crate::seeded_rng::SeededRng;

/// Faults of a bucket, for a limited time or until they are healed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketOutage {
    /// Faults that requests meet.
    pub profile: FaultProfile,
    /// Duration; until healed if `None`.
    pub lasts: Option<Duration>,
}

const REJECTIONS: [S3Fault; 6] = [
    S3Fault::SlowDown,
    S3Fault::InternalError,
    S3Fault::RequestTimeout,
    S3Fault::ExpiredToken,
    S3Fault::ClockSkew,
    S3Fault::Refused,
];

/// Generates an outage.
pub(super) fn generate(rng: &mut SeededRng) -> BucketOutage {
    let profile = match rng.below(14) {
        0..=2 => FaultProfile::always(rejection(rng)),
        3 => FaultProfile::always(S3Fault::Unresponsive),
        4 => FaultProfile::always(S3Fault::LateWrite(Duration::from_millis(1_400))),
        5 => FaultProfile::always(S3Fault::SlowBody(100_000 + 200_000 * rng.below(8))),
        6 => FaultProfile::always(S3Fault::StaleList(Duration::from_secs(2))),
        7 => FaultProfile {
            chances: Vec::new(),
            most_per_second: Some(1 + u32::try_from(rng.below(4)).unwrap_or(0)),
        },
        _ => pick_profile(rng),
    };
    // Three in four outages end automatically. The others last until a heal step or the end.
    let lasts = rng.percent(75).then(|| rng.between(200, 6_000));
    BucketOutage { profile, lasts }
}

/// Generates a profile in which some requests fail, each with its own fault. A retry succeeds.
fn pick_profile(rng: &mut SeededRng) -> FaultProfile {
    let mut chances = Vec::new();
    for _fault in 0..=rng.below(3) {
        let fault = match rng.below(7) {
            0 | 1 => rejection(rng),
            2 => S3Fault::LateAnswer(rng.between(100, 1_500)),
            3 => S3Fault::CutBody(u8::try_from(rng.below(100)).unwrap_or(0)),
            4 | 5 => S3Fault::LostAnswer,
            _ if rng.percent(50) => S3Fault::ErrorIn200,
            _ => S3Fault::ErrorIn200AfterEffect,
        };
        chances.push((fault, 20 + rng.below(MAX_SPORADIC_PER_THOUSAND / 3 - 20)));
    }
    FaultProfile {
        chances,
        most_per_second: None,
    }
}

fn rejection(rng: &mut SeededRng) -> S3Fault {
    let index = rng.index(REJECTIONS.len());
    REJECTIONS.get(index).copied().unwrap_or(S3Fault::SlowDown)
}

impl fmt::Display for BucketOutage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.profile)?;
        match self.lasts {
            Some(lasts) => write!(f, ", for {lasts:?}"),
            None => f.write_str(", until healed"),
        }
    }
}
