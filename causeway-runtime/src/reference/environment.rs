//! Settings that are environment variables. Each is declared as an argument for clap, whose long name and
//! visible aliases are the variables.

use clap::{Arg, Command};

use crate::markdown::{page_head, table};

/// Returns the settings as `--help` prints them.
pub fn environment_help(settings: &Command) -> String {
    let lines = shown(settings).map(|setting| {
        let default =
            default(setting).map_or(String::new(), |value| format!(" [default: {value}]"));
        format!(
            "\n  {}{default}\n      {}\n",
            names(setting).join(", "),
            meaning(setting)
        )
    });
    format!("Environment variables:\n{}", lines.collect::<String>())
}

/// Returns the reference of the settings, with a table for each help heading. `notes` are texts above the
/// tables, by heading; the text without a heading opens the page.
///
/// # Panics
///
/// If a note's heading has no settings.
pub fn environment_page(
    program: &str,
    source: &str,
    settings: &Command,
    notes: &[(&str, &str)],
) -> String {
    let mut headings = vec![""];
    for setting in shown(settings) {
        let heading = setting.get_help_heading().unwrap_or("");
        if !headings.contains(&heading) {
            headings.push(heading);
        }
    }
    let mut page = page_head(&format!("Settings of {program}"), source);
    for (heading, _) in notes {
        assert!(headings.contains(heading), "`{heading}` has no settings");
    }
    for heading in headings {
        if !heading.is_empty() {
            page.extend(["\n## ", heading, "\n"]);
        }
        for (_, note) in notes.iter().filter(|(noted, _)| *noted == heading) {
            page.extend(["\n", note, "\n"]);
        }
        let of_heading = |setting: &&Arg| setting.get_help_heading().unwrap_or("") == heading;
        let rows: Vec<_> = shown(settings).filter(of_heading).map(row).collect();
        if !rows.is_empty() {
            page.extend(["\n", &table(["variable", "default", "meaning"], rows)]);
        }
    }
    page
}

fn row(setting: &Arg) -> [String; 3] {
    let code = |text: &str| format!("`{text}`");
    let names: Vec<String> = names(setting).into_iter().map(code).collect();
    let default = default(setting).map_or("none".to_owned(), |value| code(&value));
    let mut meaning = meaning(setting);
    if let Some(name) = setting
        .get_long()
        .filter(|_| setting.is_hide_env_values_set())
    {
        meaning.extend([". `", name, "_FILE` names a file that holds it"]);
    }
    [names.join(", "), default, meaning]
}

fn shown(settings: &Command) -> impl Iterator<Item = &Arg> {
    settings
        .get_arguments()
        .filter(|setting| !setting.is_hide_set())
}

fn names(setting: &Arg) -> Vec<&str> {
    setting
        .get_long_and_visible_aliases()
        .expect("a setting has a name")
}

fn default(setting: &Arg) -> Option<String> {
    let value = setting.get_default_values().first()?;
    Some(value.display().to_string()).filter(|value| !value.is_empty())
}

fn meaning(setting: &Arg) -> String {
    setting
        .get_help()
        .expect("a setting has a text")
        .to_string()
}
