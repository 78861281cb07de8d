//! Values that are completed from the environment or from files, when the daemon starts.

use std::fmt;
use std::path::PathBuf;

/// A string that may refer to environment variables as `${NAME}`.
///
/// What `Debug` shows is what the config says, never what a variable holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Text(pub(super) String);

/// A string that nobody may read by accident: it may come from a file, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Secret {
    /// In the config, possibly with `${NAME}`.
    Inline(Text),
    /// `{ file = "..." }`: the content of a file without the line end. A relative path is looked for
    /// in `$CREDENTIALS_DIRECTORY` first, then in the working directory.
    File(PathBuf),
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(_) => f.write_str("Secret(..)"),
            Self::File(path) => write!(f, "Secret(file {})", path.display()),
        }
    }
}
