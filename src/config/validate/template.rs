//! `event` and `deletion` of a model: which strings are columns, and what a row may not set.

use super::Check;
use crate::config::models::Template;
use crate::config::raw::{self, At};
use crate::config::structure::{join, shown};

/// As deep as an event may be (64), less what consentd adds.
const DEPTH_MAX: usize = 60;

const COLUMN_HELP: &str = "write \"$name\" for the value of a column, alone in its string; $$ is a \
                           dollar. Put columns together in the query";

impl Check<'_, '_> {
    /// The fields of an event. What it may not set is reported.
    pub(super) fn template(
        &mut self,
        raw: &At<raw::Template>,
        key: &str,
        locations: &[String],
    ) -> Vec<(String, Template)> {
        let raw::Template::Table(fields) = &raw.value else { return Vec::new() };
        for (name, value) in fields {
            let key = join(key, name);
            match name.as_str() {
                "messageId" => {
                    let message = "consentd sets the messageId of rows";
                    self.report.error(&name.span, &key, message, "take it out");
                }
                "context" => self.context(value, &key, locations),
                _ => {}
            }
        }
        self.fields(fields, key, 1)
    }

    /// Consent comes from the consent columns and from nowhere else.
    fn context(&mut self, context: &At<raw::Template>, key: &str, locations: &[String]) {
        let raw::Template::Table(fields) = &context.value else {
            let message = "`context` holds the consent of the row, so it must be a table";
            let help = "write context = { name = \"$column\" }, or take it out";
            self.report.error(&context.span, key, message, help);
            return;
        };
        for (name, _) in fields {
            let consent = name.value == "consent"
                || locations.iter().any(|at| segments(at).get(1) == Some(&name.value));
            if consent {
                let message = "the consent of a row is read from its consent columns only";
                let help = "take it out; `consent = { CATEGORY = \"column\" }` sets it";
                self.report.error(&name.span, &join(key, name), message, help);
            }
        }
    }

    fn fields(
        &mut self,
        fields: &[(At<String>, At<raw::Template>)],
        key: &str,
        depth: usize,
    ) -> Vec<(String, Template)> {
        let fields = fields.iter().map(|(name, value)| {
            (name.value.clone(), self.part(value, &join(key, name), depth + 1))
        });
        fields.collect()
    }

    fn part(&mut self, raw: &At<raw::Template>, key: &str, depth: usize) -> Template {
        if depth > DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX}");
            self.report.error(&raw.span, key, message, "make the event flatter");
            return Template::Text(String::new());
        }
        match &raw.value {
            raw::Template::Table(fields) => Template::Table(self.fields(fields, key, depth)),
            raw::Template::List(items) => {
                let items = items.iter().enumerate();
                let item = |(at, item): (usize, &At<_>)| {
                    self.part(item, &format!("{key}[{at}]"), depth + 1)
                };
                Template::List(items.map(item).collect())
            }
            raw::Template::Text(text) => match text_part(text) {
                Ok(part) => part,
                Err(problem) => {
                    let message = format!("`{}`: {problem}", shown(text));
                    self.report.error(&raw.span, key, message, COLUMN_HELP);
                    Template::Text(String::new())
                }
            },
            raw::Template::Integer(number) => Template::Value((*number).into()),
            raw::Template::Float(number) => Template::Value((*number).into()),
            raw::Template::Boolean(value) => Template::Value((*value).into()),
        }
    }

    /// A deletion may name no column but the id.
    pub(super) fn only_the_id(&mut self, raw: &At<raw::Template>, key: &str, unique_id: &str) {
        match &raw.value {
            raw::Template::Table(fields) => {
                for (name, value) in fields {
                    self.only_the_id(value, &join(key, name), unique_id);
                }
            }
            raw::Template::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.only_the_id(item, &format!("{key}[{at}]"), unique_id);
                }
            }
            raw::Template::Text(text) => {
                let other =
                    matches!(text_part(text), Ok(Template::Column(name)) if name != unique_id);
                if other {
                    let message = "a deletion carries the id and no other column: the row is gone";
                    let help = format!("write \"${}\", or a fixed value", shown(unique_id));
                    self.report.error(&raw.span, key, message, help);
                }
            }
            raw::Template::Integer(_) | raw::Template::Float(_) | raw::Template::Boolean(_) => {}
        }
    }
}

/// `$name` is a column, `$$` a dollar, any other `$` a mistake.
fn text_part(text: &str) -> Result<Template, &'static str> {
    let (column, rest) = match text.strip_prefix('$') {
        Some(rest) if !rest.starts_with('$') => (true, rest),
        _ => (false, text),
    };
    let mut plain = String::with_capacity(rest.len());
    let mut parts = rest.split('$').peekable();
    plain.push_str(parts.next().unwrap_or_default());
    while let Some(part) = parts.next() {
        // Two dollars leave an empty part between them.
        match (part, parts.next()) {
            ("", Some(next)) => {
                plain.push('$');
                plain.push_str(next);
            }
            _ => return Err("a dollar in the middle"),
        }
    }
    match (column, plain.is_empty()) {
        (true, true) => Err("a dollar without the name of a column"),
        (true, false) => Ok(Template::Column(plain)),
        (false, _) => Ok(Template::Text(plain)),
    }
}

/// The keys of a JSON pointer.
pub(super) fn segments(pointer: &str) -> Vec<String> {
    let parts = pointer.split('/').skip(1);
    parts.map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dollars() {
        let column = |name: &str| Ok(Template::Column(name.to_owned()));
        let plain = |text: &str| Ok(Template::Text(text.to_owned()));
        assert_eq!(text_part("$email"), column("email"));
        assert_eq!(text_part("$Full Name"), column("Full Name"));
        assert_eq!(text_part("$a$$b"), column("a$b"));
        assert_eq!(text_part("$$email"), plain("$email"));
        assert_eq!(text_part("5$$ $$$$"), plain("5$ $$"));
        assert_eq!(text_part(""), plain(""));
        for wrong in ["$", "$$$", "user-$id", "$first $last", "a$", "$a$", "$$a$b"] {
            assert!(text_part(wrong).is_err(), "{wrong}");
        }
    }
}
