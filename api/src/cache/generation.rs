//! Which values in Redis may be believed.
//!
//! Every value carries the generation that was current before the database was read for it, and
//! counts only while that is still the current one. Writers raise the generation after their commit.
//! So a value that counts was read after the last write that anybody was told of.
//!
//! That holds only if no generation comes twice. Redis can lose the generation (emptied, restarted
//! from an old snapshot, short of memory) and keep values that carry it, so nobody counts on from what
//! is found there: each session with Redis begins by raising the generation by a distance that it
//! draws, to a number which no value carries; and a generation that is missing, or below one that this
//! session has seen, is the end of the session.

use std::ops::Range;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The distance is drawn from this. It is wide, so that a lost count that begins at zero meets a
/// generation of the time before with a chance of about one in a million million for each value that is
/// left; and Redis, which counts to 2^63, has room for four million of them. After that the count
/// begins again, as after a loss.
const DISTANCE: Range<i64> = (1 << 40)..(1 << 41);

/// A value with the generation for which it counts.
#[derive(Debug, Deserialize, Serialize)]
struct Entry<T> {
    generation: i64,
    value: T,
}

/// What a reader found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Current<T> {
    /// What is read from the database from now on counts for this generation.
    pub(super) generation: i64,
    /// The value that counts already, if there is one.
    pub(super) value: Option<T>,
}

/// Returns how far to raise the generation when a session begins.
pub(super) fn distance() -> i64 {
    rand::random_range(DISTANCE)
}

/// Judges what Redis holds, for a session that has seen the generation `floor`. Returns `None` when
/// the generation is lost.
pub(super) fn judge<T: DeserializeOwned>(
    floor: i64,
    generation: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Option<Current<T>> {
    let generation: i64 = std::str::from_utf8(generation?).ok()?.parse().ok()?;
    if generation < floor {
        return None;
    }
    let entry = value.and_then(|it| serde_json::from_slice::<Entry<T>>(it).ok());
    let counting = entry.filter(|it| it.generation == generation);
    Some(Current {
        generation,
        value: counting.map(|it| it.value),
    })
}

/// Returns a value as Redis holds it.
pub(super) fn entry<T: Serialize>(generation: i64, value: &T) -> serde_json::Result<String> {
    serde_json::to_string(&Entry { generation, value })
}

/// Returns the value of an entry that this process has made.
pub(super) fn value<T: DeserializeOwned>(entry: &str) -> serde_json::Result<T> {
    Ok(serde_json::from_str::<Entry<T>>(entry)?.value)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1 << 50;

    fn found(generation: Option<&str>, value: Option<&str>) -> Option<Current<String>> {
        judge(NOW, generation.map(str::as_bytes), value.map(str::as_bytes))
    }

    fn miss(generation: i64) -> Current<String> {
        let value = None;
        Current { generation, value }
    }

    #[test]
    fn a_value_counts_for_its_own_generation_alone() {
        let generation = NOW.to_string();
        let own = entry(NOW, &"Ada".to_owned()).unwrap();
        let older = entry(NOW - 1, &"Ada".to_owned()).unwrap();
        let hit = found(Some(&generation), Some(&own)).unwrap();
        assert_eq!(hit.value.as_deref(), Some("Ada"));
        assert_eq!(found(Some(&generation), Some(&older)), Some(miss(NOW)));
        assert_eq!(found(Some(&generation), None), Some(miss(NOW)));

        let later = (NOW + 1).to_string();
        assert_eq!(found(Some(&later), Some(&own)), Some(miss(NOW + 1)));
    }

    #[test]
    fn what_cannot_be_read_is_a_miss() {
        let generation = NOW.to_string();
        for value in ["", "garbage", "{}", "[1]", "\"Ada\"", "\u{0}"] {
            assert_eq!(
                found(Some(&generation), Some(value)),
                Some(miss(NOW)),
                "{value}"
            );
        }
        let another_shape = entry(NOW, &7).unwrap();
        assert_eq!(
            found(Some(&generation), Some(&another_shape)),
            Some(miss(NOW))
        );
    }

    #[test]
    fn a_generation_that_went_missing_or_back_is_lost() {
        let restored = entry(NOW - 5, &"Ada".to_owned()).unwrap();
        let old = (NOW - 5).to_string();
        for generation in [None, Some("1"), Some("many"), Some(old.as_str())] {
            assert_eq!(found(generation, Some(&restored)), None, "{generation:?}");
        }
    }
}
