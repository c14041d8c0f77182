//! The environment, as settings: several names for one meaning, blanks, and secrets in files.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use causeway_runtime::secret::{Secret, SecretFileError};
use causeway_runtime::telemetry::chain;
use clap::ValueEnum;

/// A setting that cannot be used: which, why, and what to write instead. Nothing has been touched when
/// this is returned.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

impl Unusable {
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

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Found {
    /// The variable.
    pub(super) name: String,
    pub(super) value: String,
    /// Whether the variable is a URL, of which this is a part.
    of_url: bool,
}

/// The variables of a process, and which of them disagree.
pub(super) struct Environment {
    variables: BTreeMap<String, String>,
    /// What URLs say, by the variable that they outweigh.
    urls: BTreeMap<&'static str, Found>,
    warnings: RefCell<Vec<String>>,
}

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let set = variables
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty());
        Self {
            variables: set.collect(),
            urls: BTreeMap::new(),
            warnings: RefCell::default(),
        }
    }

    /// Notes that the URL in `name` gives `variable`, the first of its names, this value, if it is one.
    pub(super) fn outweigh(&mut self, name: &str, variable: &'static str, value: &str) {
        if !value.is_empty() {
            let (found, of_url) = (Found::new(name, value), true);
            self.urls.insert(variable, Found { of_url, ..found });
        }
    }

    /// Returns the first of `names`, which have spaces between them, that is set, and notes those that say otherwise.
    pub(super) fn first(&self, names: &str) -> Option<Found> {
        let set = names.split(' ').filter_map(|name| {
            let value = self.variables.get(name)?.trim();
            Some(Found::new(name, value))
        });
        self.agreed(names, set)
    }

    /// Returns the first secret of `names`, each of which may also name a file, as `<NAME>_FILE`.
    pub(super) fn secret(&self, names: &str) -> Result<Option<Found>, Unusable> {
        let mut set = Vec::new();
        for name in names.split(' ') {
            if let Some(value) = self.variables.get(name) {
                set.push(Found::new(name, value));
            }
            let name = format!("{name}_FILE");
            if let Some(path) = self.variables.get(&name) {
                match Secret::from_file(Path::new(path.trim())) {
                    Ok(value) => set.push(Found::new(&name, value.reveal())),
                    Err(SecretFileError::Empty { .. }) => self.warn(format!(
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
        Ok(self.agreed(names, set))
    }

    /// Returns what a URL says, or else the first of what is set, and notes those that say otherwise.
    fn agreed(&self, names: &str, set: impl IntoIterator<Item = Found>) -> Option<Found> {
        let of_url = names
            .split(' ')
            .next()
            .and_then(|it| self.urls.get(it))
            .cloned();
        let mut set = of_url.into_iter().chain(set);
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
        names: &str,
        default: T,
        expected: &str,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<T, Unusable> {
        self.first(names).map_or(Ok(default), |found| {
            read(&found.value).ok_or_else(|| found.not_one(expected))
        })
    }

    /// Returns the option that is named, of a few.
    pub(super) fn choice<T: ValueEnum>(&self, name: &str, default: T) -> Result<T, Unusable> {
        let options = T::value_variants().iter();
        let names: Vec<String> = options.map(|it| format!("`{}`", option_name(it))).collect();
        let expected = match names.as_slice() {
            [before @ .., last] => format!("{} or {last}", before.join(", ")),
            [] => String::new(),
        };
        let read = |text: &str| T::from_str(text, true).ok();
        self.parsed(name, default, &expected, read)
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
        self.parsed(name, default, &expected, |text| {
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
        self.parsed(name, default, expected, |text| {
            text.split(',').map(str::trim).map(read).collect()
        })
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Unusable> {
        self.parsed(name, false, "`true` or `false`", |text| {
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
        self.parsed(name, default, expected, |text| {
            duration(text).filter(|it| !it.is_zero())
        })
    }

    /// Returns a time that may be zero.
    pub(super) fn delay(&self, name: &str, default: Duration) -> Result<Duration, Unusable> {
        let expected = "a time, such as `0`, `5`, `5s` or `500ms`";
        self.parsed(name, default, expected, duration)
    }
}

impl Found {
    pub(super) fn new(name: &str, value: &str) -> Self {
        Self {
            name: name.to_owned(),
            value: value.to_owned(),
            of_url: false,
        }
    }

    /// Says that this is not what was expected. What stands in a URL may hold a part of a password.
    pub(super) fn not_one(&self, expected: &str) -> Unusable {
        let Self { name, value, .. } = self;
        if self.of_url {
            return Unusable::hidden(name, &format!("a part of it is not {expected}"));
        }
        Unusable(format!("`{name}` is `{value}`, which is not {expected}"))
    }
}

/// Returns the name by which an option is chosen.
pub fn option_name<T: ValueEnum>(option: &T) -> String {
    let named = option.to_possible_value();
    named.map_or_else(String::new, |it| it.get_name().to_owned())
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
