//! Generated reference of a program: Markdown pages, man pages and shell completions.

mod environment;
mod settings_file;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs, io};

use clap::{Command, ValueEnum as _};
use clap_complete::Shell;

pub use self::environment::{environment_help, environment_page};
pub use self::settings_file::settings_file_page;
use crate::exit_codes::DeclaredExitCodes;
use crate::markdown::page_head;
use crate::metrics::DeclaredMetrics;

/// Columns of the help in Markdown.
const COLUMNS: usize = 100;

/// Reference of one program, from its declarations.
#[derive(Debug)]
pub struct Reference {
    command: Command,
    pages: Vec<(String, String)>,
}

impl Reference {
    /// Creates a reference that has the command line only. The program has the name of its file: a package
    /// installs `api` as `causeway-api`.
    pub fn new(command: Command) -> Self {
        let file = env::current_exe().ok();
        let name = file.as_deref().and_then(Path::file_name);
        // clap keeps names for as long as the program runs.
        let name = name
            .and_then(OsStr::to_str)
            .map(|name| &*name.to_owned().leak());
        let command = match name {
            Some(name) => command.name(name),
            None => command,
        };
        Self {
            command: without_help_command(command),
            pages: Vec::new(),
        }
    }

    /// Adds `settings-PROGRAM.md`.
    #[must_use]
    pub fn settings(self, page: String) -> Self {
        self.with_page("settings", page)
    }

    /// Adds `metrics-PROGRAM.md`, a section of the page of all programs.
    #[must_use]
    pub fn metrics(self, declared: &DeclaredMetrics) -> Self {
        let section = section(self.command.get_name(), declared.introduction);
        self.with_page("metrics", section + &declared.table())
    }

    /// Adds `exit-codes-PROGRAM.md`, a section of the page of all programs.
    #[must_use]
    pub fn exit_codes(self, declared: &DeclaredExitCodes) -> Self {
        let section = section(self.command.get_name(), declared.introduction);
        self.with_page("exit-codes", section + &declared.table())
    }

    fn with_page(mut self, subject: &str, page: String) -> Self {
        let name = format!("{subject}-{}.md", self.command.get_name());
        self.pages.push((name, page));
        self
    }

    /// Writes the pages, `cli-PROGRAM.md`, `man/*.1` and `completions/*` into a directory.
    ///
    /// # Errors
    ///
    /// An error if a file cannot be written.
    pub fn write(self, directory: &Path) -> io::Result<()> {
        let Self { mut command, pages } = self;
        let name = command.get_name().to_owned();
        let manuals = directory.join("man");
        let completions = directory.join("completions");
        fs::create_dir_all(&manuals)?;
        fs::create_dir_all(&completions)?;
        clap_mangen::generate_to(command.clone(), &manuals)?;
        for shell in Shell::value_variants() {
            clap_complete::generate_to(*shell, &mut command.clone(), &name, &completions)?;
        }
        for (file, page) in pages {
            fs::write(directory.join(file), page)?;
        }
        let mut page = page_head(&format!("Commands of {name}"), "the text of `--help`");
        command.build();
        write_command(&command, &name, &mut page);
        fs::write(directory.join(format!("cli-{name}.md")), page)
    }
}

fn section(program: &str, introduction: &str) -> String {
    let lines: Vec<&str> = introduction.lines().map(str::trim).collect();
    format!("\n## {program}\n\n{}\n\n", lines.join("\n").trim())
}

/// Removes the `help` command, which would list every command again.
fn without_help_command(command: Command) -> Command {
    command
        .disable_help_subcommand(true)
        .mut_subcommands(without_help_command)
}

fn write_command(command: &Command, path: &str, page: &mut String) {
    let help = command.clone().term_width(COLUMNS).render_long_help();
    // Writing to a `String` cannot fail.
    write!(page, "\n## {path}\n\n```text\n").ok();
    for line in help.to_string().lines() {
        page.push_str(line.trim_end());
        page.push('\n');
    }
    page.push_str("```\n");
    for child in command
        .get_subcommands()
        .filter(|child| !child.is_hide_set())
    {
        write_command(child, &format!("{path} {}", child.get_name()), page);
    }
}
