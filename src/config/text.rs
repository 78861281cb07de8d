//! Values that are completed from the environment or from files, when the daemon starts.

use std::fmt;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::form::{self, Wrong};

/// More than any token, less than a mistake such as naming the wrong file.
const SECRET_FILE_MAX_BYTES: u64 = 64 * 1024;

/// A string that may refer to environment variables as `${NAME}`; `$$` is a dollar.
///
/// What `Debug` shows is what the config says, never what a variable holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text {
    key: String,
    form: Form,
    parts: Vec<Part>,
}

/// What the string is, once it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Form {
    /// `http://` or `https://`
    Url,
    /// `host:port`
    Address,
    /// With `strftime` conversions.
    FilePath,
    /// One visible line.
    HeaderValue,
    /// Anything but NUL: keys of several lines are options of drivers.
    Option,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Literal(String),
    Variable(String),
}

/// A string that nobody may read by accident: it may come from a file, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Secret {
    /// In the config, possibly with `${NAME}`.
    Inline(Text),
    /// `{ file = "..." }`: the content of a file without the line end.
    File {
        /// The key of the config, for errors.
        key: String,
        /// A relative path is looked for in `$CREDENTIALS_DIRECTORY` first, then in the working
        /// directory.
        path: PathBuf,
        /// What the content must be.
        form: Form,
    },
}

/// A secret that was read. `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Resolved(String);

/// Why a [`Text`] or [`Secret`] can't be completed. It names the key and the variable or file, and
/// holds nothing of their content.
#[derive(Debug)]
pub struct ResolveError {
    key: String,
    problem: Problem,
}

#[derive(Debug)]
enum Problem {
    Unset(String),
    NotUnicode(String),
    Unreadable(PathBuf, io::Error),
    TooLong(PathBuf),
    Form(Wrong),
}

impl Text {
    /// Reads a template. Without variables the string is checked here and now, otherwise when it is
    /// complete.
    pub(super) fn new(key: String, template: &str, form: Form) -> Result<Self, Wrong> {
        let parts = split(template)?;
        let text = Self { key, form, parts };
        if let Some(literal) = text.literal() {
            text.form.check(&literal)?;
        }
        Ok(text)
    }

    /// The whole string, where it needs nothing from outside.
    fn literal(&self) -> Option<String> {
        self.parts.iter().try_fold(String::new(), |whole, part| match part {
            Part::Literal(text) => Some(whole + text),
            Part::Variable(_) => None,
        })
    }

    /// The complete string, with the values of environment variables, in the form it must have.
    ///
    /// # Errors
    /// [`ResolveError`] where a variable is not set, or the string does not have that form.
    pub fn resolve(&self) -> Result<String, ResolveError> {
        self.resolve_with(|name| std::env::var(name))
    }

    fn resolve_with(
        &self,
        variable: impl Fn(&str) -> Result<String, std::env::VarError>,
    ) -> Result<String, ResolveError> {
        let mut whole = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => whole.push_str(text),
                Part::Variable(name) => {
                    whole += &variable(name).map_err(|error| {
                        self.error(match error {
                            std::env::VarError::NotPresent => Problem::Unset(name.clone()),
                            std::env::VarError::NotUnicode(_) => Problem::NotUnicode(name.clone()),
                        })
                    })?;
                }
            }
        }
        match self.form.check(&whole) {
            Ok(()) => Ok(whole),
            Err(wrong) => Err(self.error(Problem::Form(wrong))),
        }
    }

    fn error(&self, problem: Problem) -> ResolveError {
        ResolveError { key: self.key.clone(), problem }
    }
}

impl Form {
    fn check(self, text: &str) -> Result<(), Wrong> {
        match self {
            Self::Url => form::url(text),
            Self::Address => form::address(text),
            Self::FilePath => form::file_path(text),
            Self::HeaderValue => form::header_value(text),
            Self::Option => form::option(text),
        }
    }
}

fn split(template: &str) -> Result<Vec<Part>, Wrong> {
    let mut parts = Vec::new();
    let mut literal = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        literal.push_str(&rest[..at]);
        let tail = &rest[at + 1..];
        if let Some(tail) = tail.strip_prefix('$') {
            literal.push('$');
            rest = tail;
        } else if let Some(tail) = tail.strip_prefix('{') {
            let (name, tail) = tail.split_once('}').ok_or(Wrong {
                message: "`${` without `}`",
                help: "write ${NAME} for an environment variable, $$ for a dollar",
            })?;
            if !is_variable(name) {
                return Err(Wrong {
                    message: "not the name of an environment variable",
                    help: "write ${NAME} with letters, digits and `_`; $$ is a dollar",
                });
            }
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Variable(name.to_owned()));
            rest = tail;
        } else {
            literal.push('$');
            rest = tail;
        }
    }
    literal.push_str(rest);
    if !literal.is_empty() || parts.is_empty() {
        parts.push(Part::Literal(literal));
    }
    Ok(parts)
}

fn is_variable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Secret {
    /// Reads the secret.
    ///
    /// # Errors
    /// [`ResolveError`] where a variable is not set, a file can't be read, or what was read can't be
    /// used.
    pub fn resolve(&self) -> Result<Resolved, ResolveError> {
        let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
        self.resolve_in(credentials.as_deref())
    }

    fn resolve_in(&self, credentials: Option<&Path>) -> Result<Resolved, ResolveError> {
        let (key, path, form) = match self {
            Self::Inline(text) => return text.resolve().map(Resolved),
            Self::File { key, path, form } => (key, path, form),
        };
        let content = read_secret(path, credentials).and_then(|content| {
            form.check(&content).map_err(Problem::Form)?;
            Ok(content)
        });
        match content {
            Ok(content) => Ok(Resolved(content)),
            Err(problem) => Err(ResolveError { key: key.clone(), problem }),
        }
    }
}

/// The content of a file without its last line end.
fn read_secret(path: &Path, credentials: Option<&Path>) -> Result<String, Problem> {
    let first = credentials.filter(|_| path.is_relative()).map(|folder| folder.join(path));
    let path = match &first {
        Some(first) if first.exists() => first,
        _ => path,
    };
    let unreadable = |error| Problem::Unreadable(path.to_owned(), error);
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let mut content = String::new();
    let read = file.take(SECRET_FILE_MAX_BYTES + 1).read_to_string(&mut content);
    if read.map_err(unreadable)? as u64 > SECRET_FILE_MAX_BYTES {
        return Err(Problem::TooLong(path.to_owned()));
    }
    let line = content.strip_suffix('\n').unwrap_or(&content);
    Ok(line.strip_suffix('\r').unwrap_or(line).to_owned())
}

impl Resolved {
    /// The secret itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The secret itself, out of its cover.
    #[must_use]
    pub fn into_inner(self) -> String {
        self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Secret(..)"),
            Self::File { path, .. } => write!(f, "Secret(file {})", path.display()),
        }
    }
}

impl fmt::Debug for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolved(..)")
    }
}

impl fmt::Display for ResolveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.key)?;
        match &self.problem {
            Problem::Unset(name) => write!(f, "the environment variable {name} is not set"),
            Problem::NotUnicode(name) => {
                write!(f, "the environment variable {name} is not valid UTF-8")
            }
            Problem::Unreadable(path, error) => {
                write!(f, "the file {} can't be read: {error}", path.display())
            }
            Problem::TooLong(path) => write!(
                f,
                "the file {} has more than {SECRET_FILE_MAX_BYTES} bytes; is it the right one?",
                path.display()
            ),
            Problem::Form(wrong) => {
                write!(f, "the value from outside is {}; {}", wrong.message, wrong.help)
            }
        }
    }
}

impl std::error::Error for ResolveError {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::env::VarError;

    fn text(template: &str, form: Form) -> Result<Text, Wrong> {
        Text::new("destinations.a.key".to_owned(), template, form)
    }

    fn resolve(template: &str) -> Result<String, String> {
        let text = text(template, Form::HeaderValue).map_err(|wrong| wrong.message.to_owned())?;
        let resolved = text.resolve_with(|name| match name {
            "TOKEN" => Ok("s3cret".to_owned()),
            "BAD" => Ok("line\nbreak".to_owned()),
            _ => Err(VarError::NotPresent),
        });
        resolved.map_err(|error| error.to_string())
    }

    #[test]
    fn variables_and_dollars() {
        let check = |template: &str, expected: &str| {
            assert_eq!(resolve(template), Ok(expected.to_owned()), "{template}");
        };
        check("Bearer ${TOKEN}", "Bearer s3cret");
        check("${TOKEN}${TOKEN}", "s3crets3cret");
        check("$$ $${TOKEN} a$b $", "$ ${TOKEN} a$b $");
        check("", "");
    }

    #[test]
    fn errors_name_the_key_and_the_variable_and_nothing_secret() {
        let unset = resolve("${TOKEN}${NO_SUCH}").unwrap_err();
        assert!(unset.contains("destinations.a.key") && unset.contains("NO_SUCH"), "{unset}");
        assert!(!unset.contains("s3cret"), "{unset}");
        let bad = resolve("${BAD}").unwrap_err();
        assert!(bad.contains("header field") && !bad.contains("break"), "{bad}");
        assert!(resolve("${").is_err() && resolve("${}").is_err() && resolve("${A-B}").is_err());
    }

    #[test]
    fn a_text_without_variables_is_checked_at_once() {
        assert!(text("ftp://a", Form::Url).is_err());
        assert!(text("${SCHEME}://a", Form::Url).is_ok());
    }

    #[test]
    fn secrets_come_from_the_credentials_first_and_are_never_shown() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "hunter2\r\n").unwrap();
        let secret = Secret::File {
            key: "destinations.a.headers.x".to_owned(),
            path: "token".into(),
            form: Form::HeaderValue,
        };
        let resolved = secret.resolve_in(Some(folder.path())).unwrap();
        assert_eq!(resolved.expose(), "hunter2");
        assert!(!format!("{secret:?}{resolved:?}").contains("hunter2"));

        let missing = secret.resolve_in(None).unwrap_err().to_string();
        assert!(missing.contains("headers.x") && missing.contains("token"), "{missing}");
    }

    #[test]
    fn a_secret_of_several_lines_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        std::fs::write(&path, "hunter2\nhunter3\n").unwrap();
        let key = "destinations.a.headers.x".to_owned();
        let error =
            Secret::File { key, path, form: Form::HeaderValue }.resolve().unwrap_err().to_string();
        assert!(error.contains("header field") && !error.contains("hunter"), "{error}");
    }
}
