//! Histories of timelines: where each ancestor ended.

use serde::{Deserialize, Serialize};

use super::{Lsn, ParseLsnError, Timeline};

/// One line of a timeline's history file: an ancestor, and the fork at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Timeline of the ancestor.
    pub timeline: Timeline,
    /// Position at which the next timeline begins.
    pub left_at: Lsn,
}

/// A timeline and its ancestors: the only WAL along which recovery can reach it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimelineHistory {
    timeline: Timeline,
    ancestors: Vec<Ancestor>,
}

impl TimelineHistory {
    /// Returns the history of `timeline` with `ancestors`, oldest first.
    pub fn new(timeline: Timeline, ancestors: Vec<Ancestor>) -> Self {
        Self {
            timeline,
            ancestors,
        }
    }

    /// Returns the timeline at the end of the history.
    pub fn timeline(&self) -> Timeline {
        self.timeline
    }

    /// Returns the ancestors, oldest first.
    pub fn ancestors(&self) -> &[Ancestor] {
        &self.ancestors
    }

    /// Returns whether replay towards this timeline passes `lsn` on `timeline`.
    pub fn passes(&self, timeline: Timeline, lsn: Lsn) -> bool {
        if timeline == self.timeline {
            return true;
        }
        self.left_at(timeline).is_some_and(|left_at| lsn <= left_at)
    }

    /// Returns, for each ancestor, the positions between which its WAL belongs to this history.
    pub fn stretches(&self) -> impl Iterator<Item = (Timeline, Lsn, Lsn)> {
        let begins = std::iter::once(Lsn::new(0))
            .chain(self.ancestors.iter().map(|ancestor| ancestor.left_at));
        let ends = self.ancestors.iter();
        begins
            .zip(ends)
            .map(|(begin, ancestor)| (ancestor.timeline, begin, ancestor.left_at))
    }

    /// Returns the position of the fork at which the ancestor `timeline` ends.
    pub fn left_at(&self, timeline: Timeline) -> Option<Lsn> {
        let ancestor = self
            .ancestors
            .iter()
            .find(|ancestor| ancestor.timeline == timeline);
        ancestor.map(|ancestor| ancestor.left_at)
    }

    /// Returns the position at which a timeline of this history begins.
    pub fn begin(&self, timeline: Timeline) -> Option<Lsn> {
        if timeline == self.timeline {
            let parent = self.ancestors.last();
            return Some(parent.map_or(Lsn::new(0), |parent| parent.left_at));
        }
        let mut stretches = self.stretches();
        stretches.find_map(|(of, begin, _)| (of == timeline).then_some(begin))
    }
}

/// Parses a history file: one ancestor per line, oldest first, `#` begins a comment
/// (`src/backend/access/transam/timeline.c`).
///
/// A recovery towards timeline 2 that ended before 2 begins writes a history in which 1 ends at that fork,
/// and 2 before it. The position belongs to the newest timeline that had begun (`tliOfPointInHistory`), so
/// each ancestor ends no later than the ones after it.
///
/// # Errors
///
/// [`ParseLsnError`] for a line without a timeline and a position.
pub fn parse_history(text: &str) -> Result<Vec<Ancestor>, ParseLsnError> {
    let written = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut ancestors: Vec<Ancestor> = written.map(ancestor).collect::<Result<_, _>>()?;
    let mut left_at = Lsn::new(u64::MAX);
    for ancestor in ancestors.iter_mut().rev() {
        left_at = left_at.min(ancestor.left_at);
        ancestor.left_at = left_at;
    }
    Ok(ancestors)
}

fn ancestor(line: &str) -> Result<Ancestor, ParseLsnError> {
    let malformed = || ParseLsnError::new(line, "a line of a timeline history");
    let mut words = line.split_whitespace();
    let number = words
        .next()
        .and_then(|word| word.parse().ok())
        .and_then(Timeline::new);
    let left_at = words.next().and_then(|word| word.parse().ok());
    match (number, left_at) {
        (Some(timeline), Some(left_at)) => Ok(Ancestor { timeline, left_at }),
        _ => Err(malformed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn position_past_the_fork_then_replay_does_not_pass_it() {
        let timeline = |number| Timeline::new(number).unwrap();
        let left = Ancestor {
            timeline: timeline(1),
            left_at: Lsn::new(100 << 20),
        };
        let history = TimelineHistory::new(timeline(3), vec![left]);

        assert!(history.passes(timeline(1), Lsn::new(100 << 20)));
        assert!(!history.passes(timeline(1), Lsn::new((100 << 20) + 1)));
        assert!(!history.passes(timeline(2), Lsn::new(1)));
        assert!(history.passes(timeline(3), Lsn::new(u64::MAX)));
    }

    #[test]
    fn history_file_then_one_ancestor_for_each_line() {
        let text = "1\t0/3000148\tno recovery target specified\n\n2\t0/5000060\tbefore x\n";
        let read = parse_history(text).unwrap();
        assert_eq!(read.len(), 2);
        assert_eq!(
            read[1],
            Ancestor {
                timeline: Timeline(2),
                left_at: Lsn(0x500_0060)
            }
        );
        assert!(parse_history("one 0/1").is_err());
    }

    #[test]
    fn recovery_ended_before_a_fork_then_fork_is_moved_back() {
        let ancestors = parse_history("1 0/50\n2 0/30\n3 0/40\n").unwrap();
        let left: Vec<u64> = ancestors
            .iter()
            .map(|ancestor| ancestor.left_at.get())
            .collect();
        assert_eq!(left, [0x30, 0x30, 0x40]);
    }
}
