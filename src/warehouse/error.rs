//! Why rows could not be had.

use std::fmt;

/// What can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The driver is not there or can't be used: something must be installed.
    Driver,
    /// A secret or option can't be used: the config or its surroundings must change.
    Config,
    /// The database can't be reached, or the connection was lost: trying again may help.
    Connection,
    /// The database does not do what it was asked; its own words say why.
    Query,
    /// The result can't become events as the model says.
    Rows,
}

/// An error for people. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    failure: Failure,
    message: String,
}

impl Error {
    /// An error with these words.
    pub fn new(failure: Failure, message: impl Into<String>) -> Self {
        Self { failure, message: message.into() }
    }

    /// What can be done about it.
    #[must_use]
    pub fn failure(&self) -> Failure {
        self.failure
    }

    /// Whether trying again may help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self.failure {
            Failure::Connection => true,
            Failure::Driver | Failure::Config | Failure::Query | Failure::Rows => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
