//! `consentd check`: is the config right?

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};

use crate::config::{self, Finding, LoadError, Loaded};

const WRONG_CONFIG: u8 = 2;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The config to check.
    #[arg(long, default_value = super::CONFIG_FILE)]
    config: PathBuf,
}

/// Exit codes: 0 nothing wrong, 2 otherwise.
pub(super) fn run(args: &Args) -> ExitCode {
    let loaded = match load(&args.config) {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    for warning in &loaded.warnings {
        anstream::eprintln!("{}", shown(&args.config, warning, Kind::Warning));
    }
    let config = &loaded.config;
    let mut counts = vec![
        counted(config.sources.len(), "source", "sources"),
        counted(config.destinations.len(), "destination", "destinations"),
        counted(config.categories.len(), "category", "categories"),
    ];
    if !config.models.is_empty() {
        counts.push(counted(config.models.len(), "model", "models"));
    }
    // The exit code is the answer, also for somebody who does not read the sentence.
    let _ = writeln!(io::stdout(), "config OK: {}", counts.join(", "));
    ExitCode::SUCCESS
}

/// Reads a config. Where it is wrong, every mistake is printed and the exit code given back.
pub(super) fn load(file: &Path) -> Result<Loaded, ExitCode> {
    match config::load(file) {
        Ok(loaded) => Ok(loaded),
        Err(LoadError::Invalid(wrong)) => {
            for error in &wrong.errors {
                anstream::eprintln!("{}", shown(file, error, Kind::Error));
            }
            for warning in &wrong.warnings {
                anstream::eprintln!("{}", shown(file, warning, Kind::Warning));
            }
            anstream::eprintln!("{}", counted(wrong.errors.len(), "mistake", "mistakes"));
            Err(ExitCode::from(WRONG_CONFIG))
        }
        Err(error @ LoadError::Unreadable(..)) => {
            anstream::eprintln!("{RED}error{RED:#}: {error}");
            Err(ExitCode::from(WRONG_CONFIG))
        }
    }
}

const RED: Style = AnsiColor::Red.on_default().bold();
const YELLOW: Style = AnsiColor::Yellow.on_default().bold();
const CYAN: Style = AnsiColor::Cyan.on_default();
const BOLD: Style = Style::new().bold();

#[derive(Clone, Copy)]
enum Kind {
    Error,
    Warning,
}

/// `file:line:column: error: key: message`, and on the next line what to write.
fn shown(file: &Path, finding: &Finding, kind: Kind) -> String {
    let Finding { line, column, key, message, help } = finding;
    let (style, name) = match kind {
        Kind::Error => (RED, "error"),
        Kind::Warning => (YELLOW, "warning"),
    };
    let mut text = format!("{}:{line}:{column}: {style}{name}{style:#}: ", file.display());
    // Writing to a string does not fail.
    if !key.is_empty() {
        let _ = write!(text, "{BOLD}{key}{BOLD:#}: ");
    }
    text.push_str(message);
    if let Some(help) = help {
        let _ = write!(text, "\n    {CYAN}{help}{CYAN:#}");
    }
    text
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
