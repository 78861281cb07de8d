//! What is wrong or odd in a config, each with its place.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

/// One mistake, or one thing that is odd: where it is and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key, such as `destinations.lake.path`; empty where there is none.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.help {
            Some(help) => write!(f, "; {help}"),
            None => Ok(()),
        }
    }
}

/// Every mistake of a config, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    /// The file as it was named.
    pub file: String,
    /// The mistakes; never empty.
    pub errors: Vec<Finding>,
    /// What is odd but harmless.
    pub warnings: Vec<Finding>,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, error) in self.errors.iter().enumerate() {
            let separator = if position == 0 { "" } else { "\n" };
            write!(f, "{separator}{}:{error}", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// Collects findings while a config is read.
#[derive(Debug)]
pub(super) struct Report<'a> {
    text: &'a str,
    /// Byte offsets of the first bytes of the lines.
    starts: Vec<usize>,
    errors: Vec<Finding>,
    warnings: Vec<Finding>,
    muted: Vec<usize>,
    /// Keys that are there but can't be used: their mistake is already reported.
    unusable: HashSet<String>,
}

impl<'a> Report<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1))
            .collect();
        Self {
            text,
            starts,
            errors: Vec::new(),
            warnings: Vec::new(),
            muted: Vec::new(),
            unusable: HashSet::new(),
        }
    }

    /// Reports a mistake. `help` may be empty.
    pub(super) fn error(
        &mut self,
        span: &Range<usize>,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let finding = self.finding(span, key, message.into(), help.into());
        if !self.muted.contains(&finding.line) {
            self.errors.push(finding);
        }
    }

    /// Reports something odd.
    pub(super) fn warn(
        &mut self,
        span: &Range<usize>,
        key: &str,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let finding = self.finding(span, key, message.into(), help.into());
        self.warnings.push(finding);
    }

    fn finding(&self, span: &Range<usize>, key: &str, message: String, help: String) -> Finding {
        let (line, column) = self.place(span.start);
        Finding {
            line,
            column,
            key: key.to_owned(),
            message,
            help: (!help.is_empty()).then_some(help),
        }
    }

    /// Line and column of a byte offset.
    pub(super) fn place(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|&start| start <= offset).max(1);
        let before = self.text.get(self.starts[line - 1]..offset);
        (line, before.map_or(1, |before| before.chars().count() + 1))
    }

    /// Marks `key` as there, but not usable.
    pub(super) fn spoil(&mut self, key: &str) {
        self.unusable.insert(key.to_owned());
    }

    /// Whether a mistake with `key` was reported already, so that it must not count as missing.
    pub(super) fn is_spoilt(&self, key: &str) -> bool {
        self.unusable.contains(key)
    }

    pub(super) fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// Ignores further errors on lines that have one: they would follow from it.
    pub(super) fn one_error_a_line(&mut self) {
        self.muted = self.errors.iter().map(|error| error.line).collect();
    }

    /// Everything that was found, in the order of the file: errors, then warnings.
    pub(super) fn finish(mut self) -> (Vec<Finding>, Vec<Finding>) {
        let place = |finding: &Finding| (finding.line, finding.column);
        self.errors.sort_by_key(place);
        self.warnings.sort_by_key(place);
        (self.errors, self.warnings)
    }
}
