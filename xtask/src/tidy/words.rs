//! Words that the vocabulary replaced and that mean nothing else here.

use crate::source::SourceFile;

/// Each word, and what to say instead. Matched as a whole word, without regard to case.
const REPLACED: [(&str, &str); 61] = [
    ("AnotherHasMore", "BehindPeer"),
    ("ByCommandOnly", "ManualOnly"),
    ("bytes of log", "bytes of WAL"),
    ("challenger", "candidate"),
    ("confirm-write", "verify-write"),
    ("displace_silent", "evict_idle"),
    ("failover_alarms_total", "failover_operator_alerts_total"),
    (
        "failover_lease_left_seconds",
        "failover_lease_remaining_seconds",
    ),
    ("Flights", "SingleFlight"),
    ("goodbye", "graceful shutdown"),
    ("GuardLink", "GuardClient"),
    ("GuardOrder", "GuardCommand"),
    ("GuardSeen", "GuardStatus"),
    ("ha-core", "causeway-core"),
    ("ha-runtime", "causeway-runtime"),
    ("hang-after-secs", "write-probe-timeout-secs"),
    ("hard-deadline-secs", "kill-deadline-secs"),
    ("has_reached", "has_passed_on_any_clock"),
    ("Haste", "ShutdownMode"),
    (
        "http_connections_displaced_total",
        "http_connections_evicted_total",
    ),
    (
        "http_connections_refused_total",
        "http_connections_rejected_total",
    ),
    ("lab drill", "lab run"),
    ("LeaseSeen", "LeaseStatus"),
    ("longest_since", "elapsed_upper_bound"),
    ("mistakes.rs", "mutants.rs"),
    ("NeverOpened", "NoPrimaryYet"),
    ("newcomer", "new connection"),
    ("NotThisFile", "WalFileError"),
    ("Opener", "Decryptor"),
    ("orders-key", "command-signing-key"),
    ("orders-key-file", "command-signing-key-file"),
    ("OrdersKey", "CommandSigningKey"),
    ("OwnServerRuns", "LocalServerRunning"),
    ("patience-secs", "retry-timeout-secs"),
    ("patience_for_better", "peer_preference_timeout"),
    ("places.rs", "connection_limit.rs"),
    ("poll-every-secs", "poll-interval-secs"),
    ("RanOut", "LeaseExpired"),
    ("renew-every-secs", "renew-interval-secs"),
    ("restore to a moment", "point-in-time recovery"),
    ("restored_to_a_moment", "point_in_time_recovery"),
    ("root-certificate", "sslrootcert"),
    ("Sealer", "Encryptor"),
    ("seconds_without_writes", "downtime_seconds"),
    ("ServerSaid", "PostgresState"),
    ("shortest_since", "elapsed_lower_bound"),
    ("shut out", "fenced"),
    ("soft-deadline-secs", "stop-deadline-secs"),
    ("somebody", "the name of the component"),
    ("split brain", "split-brain"),
    ("StandsBack", "YieldingAfterRelease"),
    ("start-within-secs", "start-timeout-secs"),
    ("TakenOver", "OperationLockLost"),
    ("term-secs", "lease-duration-secs"),
    ("time_left_secs", "remaining_secs"),
    ("two writers", "split-brain"),
    ("two_writers_seconds", "split_brain_seconds"),
    ("unseal", "decrypt"),
    ("vouched", "operator-asserted"),
    ("WentBack", "LeaseStoreRolledBack"),
    ("whoever", "the name of the component"),
];

/// The only files that may name these words: the list above, and the glossary's column of former words.
const LISTS: [&str; 2] = ["docs/concepts/glossary.md", "xtask/src/tidy/words.rs"];

/// Checks every file.
pub(super) fn check(files: &[SourceFile], findings: &mut Vec<String>) {
    for (word, instead) in REPLACED {
        let places = occurrences(files, word);
        findings.extend(places.map(|place| format!("{place}: say `{instead}`, not `{word}`")));
    }
}

/// Returns where a word occurs, as `path:line`.
fn occurrences<'a>(files: &'a [SourceFile], word: &str) -> impl Iterator<Item = String> + 'a {
    let word = word.to_lowercase();
    let checked = files
        .iter()
        .filter(|file| !LISTS.contains(&file.path.as_str()));
    checked.flat_map(move |file| {
        let lines = (1..).zip(file.lower.lines());
        let found = lines.filter(|(_, line)| contains_word(line, &word));
        let numbers: Vec<u32> = found.map(|(number, _)| number).collect();
        numbers
            .into_iter()
            .map(|number| format!("{}:{number}", file.path))
    })
}

/// Returns whether a line holds a word that no longer word contains.
fn contains_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
    line.match_indices(word).any(|(start, _)| {
        let before = line.get(..start).and_then(|text| text.chars().next_back());
        let after = line
            .get(start + word.len()..)
            .and_then(|text| text.chars().next());
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::super::planted::files;
    use super::{LISTS, check};

    fn findings(path: &str, text: &str) -> Vec<String> {
        let mut findings = Vec::new();
        check(&files([(path, text)]), &mut findings);
        findings
    }

    #[test]
    fn replaced_word_then_found_with_its_line() {
        let found = findings("docs/a.md", "One.\nUse `HA-core`.\n");
        assert_eq!(found, ["docs/a.md:2: say `causeway-core`, not `ha-core`"]);
    }

    #[test]
    fn part_of_a_longer_word_then_no_finding() {
        assert_eq!(findings("docs/a.md", "alpha-core and ha-cores"), [""; 0]);
    }

    #[test]
    fn list_itself_then_no_finding() {
        assert_eq!(findings(LISTS[1], "//! ha-core\n"), [""; 0]);
    }
}
