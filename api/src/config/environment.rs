//! The environment, as settings: several names for one meaning, blanks, and secrets in files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ha_runtime::secret::{Secret, Unreadable};
use ha_runtime::telemetry::chain;

/// A setting that cannot be used: which, why, and what to write instead. Nothing has been touched when
/// this is returned.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

impl Unusable {
    pub(super) fn not_one(name: &str, value: &str, expected: &str) -> Self {
        Self(format!("`{name}` is `{value}`, which is not {expected}"))
    }

    /// The value may hold a password, so it is not shown.
    pub(super) fn hidden(name: &str, reason: &str) -> Self {
        Self(format!("`{name}` is not usable: {reason}"))
    }

    pub(super) fn contradiction(first: &str, second: &str, reason: &str) -> Self {
        Self(format!(
            "`{first}` and `{second}` contradict each other: {reason}"
        ))
    }
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
            let value = self.variables.get(*name)?.trim().to_owned();
            let name = (*name).to_owned();
            Some(Found { name, value })
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
                    Err(error) => {
                        return Err(Unusable(format!(
                            "`{name}` names a file that is not usable; name one that this user can \
                             read, or unset it: {}",
                            chain(&error)
                        )));
                    }
                }
            }
        }
        Ok(self.agreed(set))
    }

    /// Returns what the URL says, which outweighs the variable that has the same meaning.
    pub(super) fn either<T: PartialEq>(
        &self,
        url_name: &str,
        from_url: Option<T>,
        variable: Option<Found<T>>,
    ) -> Option<Found<T>> {
        let name = url_name.to_owned();
        let from_url = from_url.map(|value| Found { name, value });
        self.agreed(from_url.into_iter().chain(variable))
    }

    /// Returns the first of what is set, and notes those that say otherwise.
    fn agreed<T: PartialEq>(&self, set: impl IntoIterator<Item = Found<T>>) -> Option<Found<T>> {
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
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Unusable> {
        let found = self.found(names, expected, read)?;
        Ok(found.map_or(default, |it| it.value))
    }

    /// Returns what `read` makes of a setting, if it is set.
    pub(super) fn found<T>(
        &self,
        names: &[&str],
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<Found<T>>, Unusable> {
        let found = self.first(names);
        found.map(|it| it.parse(expected, read)).transpose()
    }

    /// Returns the option that is named, of a few.
    pub(super) fn choice<T: Copy>(
        &self,
        name: &str,
        default: T,
        options: &[(&str, T)],
    ) -> Result<T, Unusable> {
        let names: Vec<String> = options.iter().map(|it| format!("`{}`", it.0)).collect();
        let expected = match names.as_slice() {
            [before @ .., last] => format!("{} or {last}", before.join(", ")),
            [] => String::new(),
        };
        self.parsed(&[name], default, &expected, |text| {
            let option = options.iter().find(|it| it.0 == text);
            option.map(|it| it.1)
        })
    }

    /// Returns a number of something.
    pub(super) fn number<T>(
        &self,
        name: &str,
        default: T,
        range: RangeInclusive<T>,
        of: &str,
    ) -> Result<T, Unusable>
    where
        T: FromStr + PartialOrd + std::fmt::Display,
    {
        let (start, end) = (range.start(), range.end());
        let expected = format!("a {of} from {start} to {end}");
        self.parsed(&[name], default, &expected, |text| {
            text.parse().ok().filter(|it| range.contains(it))
        })
    }

    /// Returns a list that is written with commas.
    pub(super) fn list<T, L: FromIterator<T>>(
        &self,
        name: &str,
        default: L,
        expected: &str,
        read: impl FnMut(&str) -> Option<T>,
    ) -> Result<L, Unusable> {
        self.parsed(&[name], default, expected, |text| {
            text.split(',').map(str::trim).map(read).collect()
        })
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

    /// Returns a time that must not be zero.
    pub(super) fn time(&self, name: &str, default: Duration) -> Result<Duration, Unusable> {
        let expected = "a time above zero, such as `5`, `5s` or `500ms`";
        self.parsed(&[name], default, expected, |text| {
            duration(text).filter(|it| !it.is_zero())
        })
    }

    /// Returns a time that may be zero.
    pub(super) fn delay(&self, name: &str, default: Duration) -> Result<Duration, Unusable> {
        let expected = "a time, such as `0`, `5`, `5s` or `500ms`";
        self.parsed(&[name], default, expected, duration)
    }
}

impl Found<String> {
    /// Returns what `read` makes of it.
    pub(super) fn parse<T>(
        self,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Found<T>, Unusable> {
        let Self { name, value } = self;
        match read(&value) {
            Some(value) => Ok(Found { name, value }),
            None => Err(Unusable::not_one(&name, &value, expected)),
        }
    }
}

/// Reads seconds (`5`, `0.5`, `5s`), milliseconds (`500ms`) or minutes (`1m`), at most a day.
pub(super) fn duration(text: &str) -> Option<Duration> {
    const DAY: f64 = 86_400.0;
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0), ("", 1.0)];
    let with_unit = |(suffix, unit)| Some((text.strip_suffix(suffix)?, unit));
    let (digits, unit) = units.into_iter().find_map(with_unit)?;
    let seconds = digits.trim().parse::<f64>().ok()? * unit;
    let is_right = (0.0..=DAY).contains(&seconds);
    is_right.then(|| Duration::from_secs_f64(seconds))
}

/// Returns the environment with these variables.
#[cfg(test)]
pub(super) fn from(variables: &[(&str, &str)]) -> Environment {
    let each = variables.iter();
    Environment::new(each.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_times_as_people_write_them() {
        for (text, millis) in [("5", 5000), ("0.5", 500), ("250ms", 250), ("1m", 60_000)] {
            assert_eq!(duration(text), Some(Duration::from_millis(millis)));
        }
        for bad in ["", "-1", "five", "NaN", "inf", "1h", "999999"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_blank_is_no_value_and_a_disagreement_names_no_values() {
        let variables = [("PGHOST", " "), ("DB_HOST", "a"), ("POSTGRES_HOST", "b")];
        let environment = from(&variables);
        let found = environment.first(&variables.map(|it| it.0)).unwrap();

        assert_eq!((found.name, found.value), ("DB_HOST".into(), "a".into()));
        let ignored = "`DB_HOST` is used; `POSTGRES_HOST` has another value and is ignored";
        assert_eq!(environment.into_warnings(), [ignored]);
    }
}
