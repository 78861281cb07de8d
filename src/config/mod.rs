//! The config: one TOML file, read, checked and resolved against itself.
//!
//! Owns the types of the file (`raw`, also the source of the reference and the JSON Schema), every
//! check on them, and the checked [`Config`] that the rest is built from. It opens no port and no
//! `data_dir`, and reads no secret: [`Text`] and [`Secret`] do that when they are asked to, at the
//! start of the daemon.
//!
//! What always holds: all mistakes are reported at once, each with its place and what to write
//! instead; where there is a [`Config`], every reference in it leads somewhere and every number is in
//! its range; nothing that is unknown is ever ignored.

mod finding;
mod form;
mod model;
mod models;
mod raw;
mod schema;
mod structure;
pub(crate) mod suggest;
mod syntax;
mod text;
mod validate;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

pub use finding::{ConfigErrors, Finding};
pub use model::*;
pub use models::*;
pub use schema::{choices, schema};
pub use text::{ResolveError, Resolved, Secret, Text};

use finding::Report;

/// A config without mistakes.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The config.
    pub config: Config,
    /// What is odd in it but harmless, in the order of the file.
    pub warnings: Vec<Finding>,
}

/// Why there is no config.
#[derive(Debug)]
pub enum LoadError {
    /// The file can't be read.
    Unreadable(PathBuf, io::Error),
    /// It has mistakes.
    Invalid(ConfigErrors),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => {
                write!(f, "the config {} can't be read: {error}", path.display())?;
                match error.kind() {
                    io::ErrorKind::NotFound => f.write_str("; name another file with --config"),
                    io::ErrorKind::PermissionDenied => {
                        f.write_str("; it must be readable for the user that consentd runs as")
                    }
                    _ => Ok(()),
                }
            }
            Self::Invalid(errors) => errors.fmt(f),
        }
    }
}

impl std::error::Error for LoadError {}

impl LoadError {
    /// The reasons, each a line.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        match self {
            Self::Unreadable(..) => vec![self.to_string()],
            Self::Invalid(errors) => {
                errors.errors.iter().map(|error| format!("{}:{error}", errors.file)).collect()
            }
        }
    }
}

/// Reads and checks a config file.
///
/// # Errors
/// [`LoadError`] where the file can't be read or has any mistake.
pub fn load(path: &Path) -> Result<Loaded, LoadError> {
    parse(&path.display().to_string(), &read_file(path)?).map_err(LoadError::Invalid)
}

/// Checks the content of a config file; `file` is its name in errors, and relative paths of queries
/// begin at its folder.
///
/// # Errors
/// [`ConfigErrors`] with every mistake.
pub fn parse(file: &str, content: &[u8]) -> Result<Loaded, ConfigErrors> {
    let text = String::from_utf8_lossy(content);
    let mut report = Report::new(&text);
    let folder = Path::new(file).parent().unwrap_or(Path::new(""));
    let config = read(content, &text, folder, &mut report);
    let (errors, warnings) = report.finish();
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded { config, warnings }),
        _ => Err(ConfigErrors { file: file.to_owned(), errors, warnings }),
    }
}

/// The config, unless something was reported as an error.
fn read(content: &[u8], text: &str, folder: &Path, report: &mut Report<'_>) -> Option<Config> {
    if let Err(error) = std::str::from_utf8(content) {
        let at = error.valid_up_to();
        report.error(&(at..at), "", "not valid UTF-8", "save the file as UTF-8");
        return None;
    }
    let mut document = syntax::document(text, report)?;
    structure::check(&mut document, schema(), report);
    match raw::File::read(document) {
        Ok(file) => validate::validate(&file, folder, report),
        Err(error) => {
            // The schema let something through that the types refuse: still an error with a place.
            report.error(&error.span().unwrap_or(0..0), "", error.message(), "");
            None
        }
    }
}

/// The admin address alone, from a config that may have mistakes elsewhere: a daemon that runs with
/// an older version of the file can be asked, and says what is wrong with the new one.
///
/// # Errors
/// [`LoadError`] where the file can't be read, or the address is not there to be found.
pub fn admin_address(path: &Path) -> Result<SocketAddr, LoadError> {
    let content = read_file(path)?;
    let text = String::from_utf8_lossy(&content);
    let mut report = Report::new(&text);
    let mut document = syntax::recovered(&text);
    let others = std::mem::take(document.get_mut());
    document
        .get_mut()
        .extend(others.into_iter().filter(|(section, _)| section.get_ref() == "admin"));
    structure::check(&mut document, schema(), &mut report);
    let found =
        raw::File::read(document).ok().and_then(|file| validate::admin_address(&file, &mut report));
    let (errors, warnings) = report.finish();
    found.ok_or_else(|| {
        LoadError::Invalid(ConfigErrors { file: path.display().to_string(), errors, warnings })
    })
}

fn read_file(path: &Path) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|error| LoadError::Unreadable(path.to_owned(), error))
}
