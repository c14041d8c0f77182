//! Environment variables as arguments for clap: several names of one setting, blanks, and secrets in
//! files.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::path::Path;

use causeway_runtime::secret::{Secret, SecretFileError};
use causeway_runtime::telemetry::chain;
use clap::error::{ContextKind, ContextValue};
use clap::{Args, Command, ValueEnum};

/// A setting that cannot be used: its name, the reason and the remedy. Nothing has been touched when
/// this is returned.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingError(String);

impl SettingError {
    /// Does not show the value, which may hold a password.
    pub(super) fn hidden(name: &str, reason: &str) -> Self {
        Self(format!("`{name}` is not usable: {reason}"))
    }

    pub(super) fn contradiction(first: &str, second: &str, reason: &str) -> Self {
        Self(format!(
            "`{first}` and `{second}` contradict each other: {reason}"
        ))
    }
}

/// A value, and the variable that holds it.
#[derive(Clone)]
pub(super) struct SettingValue {
    pub(super) name: String,
    pub(super) value: String,
    /// Whether the variable is a URL, and the value a part of it.
    is_of_url: bool,
}

impl SettingValue {
    fn new(name: &str, value: &str, is_of_url: bool) -> Self {
        Self {
            name: name.to_owned(),
            value: value.to_owned(),
            is_of_url,
        }
    }
}

/// The variables of a process.
pub(super) struct Environment {
    variables: BTreeMap<String, String>,
    /// Parts of URLs, by the variable that each of them overrides.
    url_parts: BTreeMap<&'static str, SettingValue>,
    /// Values in use, by the first variable of each setting.
    used: BTreeMap<String, SettingValue>,
    pub(super) warnings: Vec<String>,
}

impl Environment {
    pub(super) fn new(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let set = variables
            .into_iter()
            .filter(|(_, value)| !value.trim().is_empty());
        Self {
            variables: set.collect(),
            url_parts: BTreeMap::new(),
            used: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    /// Returns the variable that sets what `first` would set.
    pub(super) fn name_of<'a>(&'a self, first: &'a str) -> &'a str {
        self.used
            .get(first)
            .map_or(first, |used| used.name.as_str())
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.variables.contains_key(name) || self.url_parts.contains_key(name)
    }

    /// Overrides a setting, named by the first of its variables, by a part of the URL in `url`.
    pub(super) fn override_by(&mut self, url: &str, variable: &'static str, value: &str) {
        if !value.is_empty() {
            let part = SettingValue::new(url, value, true);
            self.url_parts.insert(variable, part);
        }
    }

    /// Returns the first of `names` that is set, and warns of those with another value. Each name of a
    /// secret may also name a file, as `<NAME>_FILE`.
    pub(super) fn find(
        &mut self,
        names: &[&str],
        is_secret: bool,
    ) -> Result<Option<SettingValue>, SettingError> {
        let of_url = names.first().and_then(|name| self.url_parts.get(name));
        let mut found: Vec<SettingValue> = of_url.into_iter().cloned().collect();
        for name in names {
            if let Some(value) = self.variables.get(*name) {
                let value = if is_secret { value } else { value.trim() };
                found.push(SettingValue::new(name, value, false));
            }
            if is_secret {
                found.extend(self.read_file(&format!("{name}_FILE"))?);
            }
        }
        let mut found = found.into_iter();
        let Some(used) = found.next() else {
            return Ok(None);
        };
        for other in found.filter(|other| other.value != used.value) {
            self.warn_of_ignored(&used.name, &other.name);
        }
        Ok(Some(used))
    }

    fn read_file(&mut self, name: &str) -> Result<Option<SettingValue>, SettingError> {
        let Some(path) = self.variables.get(name) else {
            return Ok(None);
        };
        match Secret::from_file(Path::new(path.trim())) {
            Ok(value) => Ok(Some(SettingValue::new(name, value.reveal(), false))),
            Err(SecretFileError::Empty { .. }) => {
                self.warn(format!(
                    "`{name}` is ignored: the file that it names is blank"
                ));
                Ok(None)
            }
            Err(error) => Err(SettingError(format!(
                "`{name}` names a file that is not usable; name one that this user can read, or \
                 unset it: {}",
                chain(&error)
            ))),
        }
    }

    /// Warns that `ignored` differs from `used`. Values are not shown: they may be secrets.
    pub(super) fn warn_of_ignored(&mut self, used: &str, ignored: &str) {
        self.warn(format!(
            "`{used}` is used; `{ignored}` has another value and is ignored"
        ));
    }

    pub(super) fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    /// Parses the settings that `T` declares as arguments: the long name of each, and then its aliases,
    /// are the variables that set it. An argument that hides its value is a secret.
    pub(super) fn parse<T: Args>(&mut self) -> Result<T, SettingError> {
        let command = Command::new("settings").no_binary_name(true);
        let command = T::augment_args(command.disable_help_flag(true));
        let mut args = Vec::new();
        for arg in command.get_arguments() {
            let (Some(first), Some(names)) = (arg.get_long(), arg.get_long_and_visible_aliases())
            else {
                continue;
            };
            if let Some(used) = self.find(&names, arg.is_hide_env_values_set())? {
                args.push(format!("--{first}={}", used.value));
                self.used.insert(first.to_owned(), used);
            }
        }
        let parsed = command
            .try_get_matches_from(args)
            .and_then(|matches| T::from_arg_matches(&matches));
        parsed.map_err(|error| self.describe_rejection(&error))
    }

    /// Names the variable whose value clap rejected, and the values that are accepted.
    fn describe_rejection(&self, error: &clap::Error) -> SettingError {
        let expected = match (error.source(), error.get(ContextKind::ValidValue)) {
            (Some(source), _) => source.to_string(),
            (None, Some(ContextValue::Strings(options))) => format!("`{}`", options.join("` or `")),
            (None, _) => error.to_string(),
        };
        let argument = match error.get(ContextKind::InvalidArg) {
            Some(ContextValue::String(argument)) => argument.trim_start_matches('-'),
            _ => "",
        };
        let name = argument.split(' ').next().unwrap_or(argument);
        match self.used.get(name) {
            // The value may hold a part of a password.
            Some(used) if used.is_of_url => {
                SettingError::hidden(&used.name, &format!("a part of it is not {expected}"))
            }
            Some(SettingValue { name, value, .. }) => {
                SettingError(format!("`{name}` is `{value}`, which is not {expected}"))
            }
            None => SettingError(expected),
        }
    }
}

/// Returns the name by which an option is chosen.
pub fn option_name<T: ValueEnum>(option: &T) -> String {
    let named = option.to_possible_value();
    named.map_or_else(String::new, |value| value.get_name().to_owned())
}
