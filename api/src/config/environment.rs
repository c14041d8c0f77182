//! The environment, as settings: several names for one meaning, blanks, and secrets in files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use ha_runtime::secret::{Secret, Unreadable};

/// A setting that cannot be used. Nothing has been touched when this is returned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// The value is not one of the setting's.
    #[error("`{name}` is `{value}`, which is not {expected}")]
    NotOne {
        /// The variable.
        name: String,
        /// What it holds.
        value: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// The value is not usable and may hold a password, so it is not shown.
    #[error("`{name}` is not usable: {reason}")]
    Hidden {
        /// The variable.
        name: String,
        /// Why, and what to write instead.
        reason: String,
    },
    /// Two settings contradict each other.
    #[error("`{first}` and `{second}` contradict each other: {reason}")]
    Contradiction {
        /// The one.
        first: String,
        /// The other.
        second: String,
        /// How, and what to change.
        reason: String,
    },
    /// The file that a `_FILE` variable names holds no secret.
    #[error(
        "`{name}` names a file that is not usable; name one that this user can read, or unset it"
    )]
    SecretFile {
        /// The variable.
        name: String,
        /// Why.
        source: Unreadable,
    },
}

/// A value and the variable that held it.
#[derive(Clone, Debug)]
pub(super) struct Found<T> {
    pub(super) name: String,
    pub(super) value: T,
}

/// The variables of a process, and which of them disagree.
#[derive(Debug)]
pub(super) struct Environment {
    variables: BTreeMap<String, String>,
    warnings: RefCell<Vec<String>>,
}

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let set = variables
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty());
        Self {
            variables: set.collect(),
            warnings: RefCell::default(),
        }
    }

    /// Returns the first of `names` that is set, and notes those that say otherwise.
    pub(super) fn first(&self, names: &[&str]) -> Option<Found<String>> {
        let set = names.iter().filter_map(|name| {
            let value = self.variables.get(*name)?;
            Some(Found {
                name: (*name).to_owned(),
                value: value.trim().to_owned(),
            })
        });
        self.agreed(set)
    }

    /// Returns the first secret of `names`, each of which may also name a file, as `<NAME>_FILE`.
    pub(super) fn secret(&self, names: &[&str]) -> Result<Option<Found<Secret>>, Unusable> {
        let mut set = Vec::new();
        for name in names {
            if let Some(value) = self.variables.get(*name) {
                let name = (*name).to_owned();
                let value = Secret::new(value.as_str());
                set.push(Found { name, value });
            }
            let name = format!("{name}_FILE");
            if let Some(path) = self.variables.get(&name) {
                match Secret::from_file(&PathBuf::from(path.trim())) {
                    Ok(value) => set.push(Found { name, value }),
                    Err(Unreadable::Empty { .. }) => self.warn(format!(
                        "the file that `{name}` names is blank, which is no value"
                    )),
                    Err(source) => return Err(Unusable::SecretFile { name, source }),
                }
            }
        }
        Ok(self.agreed(set))
    }

    /// Returns the first of what is set, and notes those that say otherwise.
    pub(super) fn agreed<T: PartialEq>(
        &self,
        set: impl IntoIterator<Item = Found<T>>,
    ) -> Option<Found<T>> {
        let mut set = set.into_iter();
        let used = set.next()?;
        for other in set.filter(|it| it.value != used.value) {
            self.warn_of(&used.name, &other.name);
        }
        Some(used)
    }

    /// Notes that `ignored` says otherwise than `used`. Values are not shown: they may be secrets.
    pub(super) fn warn_of(&self, used: &str, ignored: &str) {
        self.warn(format!(
            "`{used}` is used; `{ignored}` has another value and is ignored"
        ));
    }

    pub(super) fn warn(&self, warning: String) {
        self.warnings.borrow_mut().push(warning);
    }

    pub(super) fn into_warnings(self) -> Vec<String> {
        self.warnings.into_inner()
    }

    /// Returns what `read` makes of a setting, or `default` when it is not set.
    pub(super) fn parsed<T>(
        &self,
        names: &[&str],
        default: T,
        expected: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Unusable> {
        let found = self.found(names, expected, read)?;
        Ok(found.map_or(default, |it| it.value))
    }

    /// Returns what `read` makes of a setting, if it is set.
    pub(super) fn found<T>(
        &self,
        names: &[&str],
        expected: &'static str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<Found<T>>, Unusable> {
        let Some(Found { name, value }) = self.first(names) else {
            return Ok(None);
        };
        match read(&value) {
            Some(value) => Ok(Some(Found { name, value })),
            None => Err(Unusable::NotOne {
                name,
                value,
                expected,
            }),
        }
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Unusable> {
        self.parsed(&[name], false, "`true` or `false`", |text| {
            match text.to_ascii_lowercase().as_str() {
                "1" | "true" | "yes" | "on" => Some(true),
                "0" | "false" | "no" | "off" => Some(false),
                _ => None,
            }
        })
    }

    /// Reads a time that must not be zero.
    pub(super) fn time(&self, name: &str, default_secs: u64) -> Result<Duration, Unusable> {
        self.time_or(name, Duration::from_secs(default_secs))
    }

    /// Reads a time that must not be zero, and by default may be less than a second.
    pub(super) fn time_or(&self, name: &str, default: Duration) -> Result<Duration, Unusable> {
        let expected = "a time above zero, such as `5`, `5s` or `500ms`";
        self.parsed(&[name], default, expected, |text| {
            duration(text).filter(|it| !it.is_zero())
        })
    }

    /// Reads a time that may be zero.
    pub(super) fn delay(&self, name: &str, default_secs: u64) -> Result<Duration, Unusable> {
        let expected = "a time, such as `0`, `5`, `5s` or `500ms`";
        let default = Duration::from_secs(default_secs);
        self.parsed(&[name], default, expected, duration)
    }
}

/// Reads seconds (`5`, `0.5`, `5s`), milliseconds (`500ms`) or minutes (`1m`), at most a day.
fn duration(text: &str) -> Option<Duration> {
    const DAY: f64 = 86_400.0;
    let scaled = |digits: &str, unit: f64| Some(digits.trim().parse::<f64>().ok()? * unit);
    let seconds = if let Some(digits) = text.strip_suffix("ms") {
        scaled(digits, 0.001)?
    } else if let Some(digits) = text.strip_suffix('s') {
        scaled(digits, 1.0)?
    } else if let Some(digits) = text.strip_suffix('m') {
        scaled(digits, 60.0)?
    } else {
        scaled(text, 1.0)?
    };
    (0.0..=DAY)
        .contains(&seconds)
        .then(|| Duration::from_secs_f64(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_as_people_write_them() {
        assert_eq!(duration("5"), Some(Duration::from_secs(5)));
        assert_eq!(duration("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(duration("250ms"), Some(Duration::from_millis(250)));
        assert_eq!(duration("1m"), Some(Duration::from_mins(1)));
        for bad in ["", "-1", "five", "NaN", "inf", "1h", "999999"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_blank_is_no_value_and_a_disagreement_names_no_values() {
        let environment = Environment::new(
            [("PGHOST", " "), ("DB_HOST", "a"), ("POSTGRES_HOST", "b")]
                .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let found = environment
            .first(&["PGHOST", "DB_HOST", "POSTGRES_HOST"])
            .unwrap();

        assert_eq!(
            (found.name.as_str(), found.value.as_str()),
            ("DB_HOST", "a")
        );
        assert_eq!(
            environment.into_warnings(),
            ["`DB_HOST` is used; `POSTGRES_HOST` has another value and is ignored"]
        );
    }
}
