//! Comparison of this host's wall clock with the `Date` header of a response.

use std::time::Duration;

use causeway_runtime::clock;
use jiff::fmt::rfc2822::DateTimeParser;

use crate::check::line::CheckLine;

/// Maximum offset of this host's clock.
///
/// The lease depends on no wall clock: each host counts durations of its own clocks, and tolerates that they run
/// 1000 ppm apart (`MAX_CLOCK_DRIFT_PPM`). A clock that NTP disciplines is within milliseconds, so an offset of
/// seconds shows that nothing disciplines this one, and then nothing bounds its rate either. 2 s are the least that a
/// `Date` header shows with certainty: it has a resolution of 1 s, and the request takes up to another.
const MAX_OFFSET_SECS: f64 = 2.0;

/// One comparison: the wall clock before the request and after the response, and the `Date` of the response.
#[derive(Clone, Debug)]
pub(super) struct ClockSample {
    pub(super) sent_at: Duration,
    pub(super) received_at: Duration,
    pub(super) date: Option<String>,
}

impl ClockSample {
    /// Executes a request that returns a `Date`.
    pub(super) async fn of<E>(
        request: impl Future<Output = Result<Option<String>, E>>,
    ) -> Result<Self, E> {
        let sent_at = clock::wall();
        let date = request.await?;
        Ok(Self {
            sent_at,
            received_at: clock::wall(),
            date,
        })
    }

    /// Compares the clocks. `other` is the source of the `Date`.
    pub(super) fn check(&self, other: &str) -> CheckLine {
        let name = format!("clock, compared with {other}");
        let parsed = self.date.as_deref().and_then(|date| {
            let parsed = DateTimeParser::new().parse_timestamp(date).ok()?;
            u32::try_from(parsed.as_second()).ok().map(f64::from)
        });
        let Some(date) = parsed else {
            return CheckLine::skipped(name, "its response has no `Date` header");
        };
        // The response was sent between the two readings, and `Date` omits the fraction of a second.
        let least_ahead = self.sent_at.as_secs_f64() - (date + 1.0);
        let least_behind = date - self.received_at.as_secs_f64();
        let (least, word) = if least_ahead > least_behind {
            (least_ahead, "ahead")
        } else {
            (least_behind, "behind")
        };
        if least > MAX_OFFSET_SECS {
            return CheckLine::failed(
                name,
                format!(
                    "this host's clock is at least {least:.1} s {word}, and {MAX_OFFSET_SECS} s are allowed: start its \
                     time service (chrony), and check the other host's too"
                ),
            );
        }
        CheckLine::ok(name, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::line::CheckResultWord;

    /// Compares a `Date` of 1000 s after midnight with this clock's readings.
    fn compared(sent_at: f64, received_at: f64) -> CheckLine {
        let midnight = 1_796_169_600.0;
        let sample = ClockSample {
            sent_at: Duration::from_secs_f64(midnight + sent_at),
            received_at: Duration::from_secs_f64(midnight + received_at),
            date: Some("Wed, 02 Dec 2026 00:16:40 GMT".to_owned()),
        };
        sample.check("b")
    }

    #[test]
    fn offset_within_two_seconds_then_ok() {
        for (sent_at, received_at) in [
            (1000.0, 1000.1),
            (998.1, 998.1),
            (1002.9, 1002.9),
            // A slow request proves less.
            (990.0, 1010.0),
        ] {
            let line = compared(sent_at, received_at);
            assert_eq!(line.result, CheckResultWord::Ok, "{sent_at}: {line}");
        }
    }

    #[test]
    fn offset_of_more_then_failed_with_direction() {
        for (at, says) in [
            (990.0, "at least 9.9 s behind, and 2 s are allowed"),
            (1012.0, "at least 11.0 s ahead, and 2 s are allowed"),
            (1003.1, "at least 2.1 s ahead, and 2 s are allowed"),
        ] {
            let line = compared(at, at + 0.1);
            assert_eq!(line.result, CheckResultWord::Failed, "{line}");
            assert!(line.detail.contains(says), "{line}");
        }
    }

    #[test]
    fn no_date_then_skipped() {
        for date in [None, Some("yesterday".to_owned())] {
            let sample = ClockSample {
                sent_at: Duration::ZERO,
                received_at: Duration::ZERO,
                date,
            };
            assert_eq!(sample.check("b").result, CheckResultWord::Skipped);
        }
    }
}
