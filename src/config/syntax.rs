//! TOML syntax.

use toml::Spanned;
use toml::de::DeTable;

use super::finding::Report;

/// Mistakes within one value or key, after which the parser knows where it is. A message that is not
/// among them ends the reading: what follows could be a consequence.
const LOCAL: &[&str] = &[
    "string values must be quoted",
    "invalid boolean",
    "invalid basic string",
    "invalid literal string",
    "duplicate key",
];

/// Parses `text`; where the mistakes are local, the document goes on to be checked without them.
pub(super) fn document<'t>(text: &'t str, report: &mut Report<'_>) -> Option<Spanned<DeTable<'t>>> {
    let (document, errors) = DeTable::parse_recoverable(text);
    let mut readable = true;
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        let local = LOCAL.iter().any(|message| error.message().starts_with(message));
        let help = help(error.message());
        // Where there is advice, what the parser would have read next is none.
        let message = match error.message().split_once(", expected ") {
            Some((message, _)) if !help.is_empty() => message,
            _ => error.message(),
        };
        report.error(&span, "", format!("TOML: {message}"), help);
        report.one_error_a_line();
        if !local {
            readable = false;
            break;
        }
    }
    readable.then_some(document)
}

/// What can be made of `text`, whatever is wrong with it.
pub(super) fn recovered(text: &str) -> Spanned<DeTable<'_>> {
    DeTable::parse_recoverable(text).0
}

fn help(message: &str) -> &'static str {
    let helps = [
        ("string values must be quoted", "put the value in double quotes"),
        ("invalid boolean", "write true or false"),
        ("duplicate key", "write each key once, and each [section] once"),
        ("key with no value", "write KEY = VALUE"),
        ("unclosed table", "write `]` at the end of the line"),
        ("unclosed array", "write `]` after the last element"),
    ];
    helps.iter().find(|(start, _)| message.starts_with(start)).map_or("", |(_, help)| help)
}
