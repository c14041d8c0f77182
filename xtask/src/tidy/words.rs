//! Words that the vocabulary replaced and that mean nothing else here.

use crate::source::SourceFile;

/// Each word, and what to say instead. Matched as a whole word, without regard to case.
const REPLACED: [(&str, &str); 1] = [("ha-core", "causeway-core")];

/// The list above is the only place for these words.
const THIS_FILE: &str = "xtask/src/tidy/words.rs";

/// Checks every file.
pub(super) fn check(files: &[SourceFile], findings: &mut Vec<String>) {
    for file in files.iter().filter(|file| file.path != THIS_FILE) {
        for (number, line) in (1..).zip(file.text.lines()) {
            let lower = line.to_lowercase();
            for (word, instead) in REPLACED {
                if contains_word(&lower, &word.to_lowercase()) {
                    findings.push(format!(
                        "{}:{number}: say `{instead}`, not `{word}`",
                        file.path
                    ));
                }
            }
        }
    }
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
    use super::{THIS_FILE, check};

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
        assert_eq!(findings(THIS_FILE, "//! ha-core\n"), [""; 0]);
    }
}
