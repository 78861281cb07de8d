//! The document against the schema: unknown keys, wrong types, values that are not among the
//! choices, numbers out of range, keys that belong to another type of source or destination.
//!
//! Whatever is reported is also taken out, so that the rest can be deserialized and checked: one
//! mistake does not hide another. The keys of what was taken out are noted ([`Report::spoil`]).

use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::finding::Report;
use super::schema::choices;
use super::suggest;

/// Sections and keys that are planned. They are refused like any unknown key, but nobody should look
/// for a typing mistake.
const NOT_YET: &[&str] = &["tokens", "tls", "idempotency", "users"];
/// Types of sources and destinations that are planned.
const TYPES_NOT_YET: &[&str] = &["kafka", "segment", "warehouse", "nats"];

/// Reports what is wrong in `document` and takes it out.
pub(super) fn check(document: &mut Spanned<DeTable<'_>>, schema: &Value, report: &mut Report<'_>) {
    let mut walk = Walk { report };
    walk.table(document.get_mut(), schema, "");
}

struct Walk<'r, 'a> {
    report: &'r mut Report<'a>,
}

impl Walk<'_, '_> {
    fn table(&mut self, table: &mut DeTable<'_>, schema: &Value, path: &str) {
        let kind = type_of(table, schema);
        let present: Vec<String> = table.keys().map(|key| key.get_ref().to_string()).collect();
        for (key, mut value) in std::mem::take(table) {
            let name: &str = key.get_ref();
            let path = join(path, name);
            let known = &schema["properties"][name];
            let expected = if known.is_null() { &schema["additionalProperties"] } else { known };
            let keep = match expected {
                Value::Null | Value::Bool(_) => {
                    self.unknown(&key.span(), name, &path, schema, &present);
                    false
                }
                expected => {
                    self.belongs(&key.span(), name, &path, expected, kind.as_deref())
                        && self.value(&mut value, expected, &path)
                }
            };
            if keep {
                table.insert(key, value);
            } else {
                self.report.spoil(&path);
            }
        }
    }

    /// Whether `value` may stay.
    fn value(&mut self, value: &mut Spanned<DeValue<'_>>, schema: &Value, path: &str) -> bool {
        let span = value.span();
        let Some(schema) = alternative(schema, value.get_ref()) else {
            self.wrong_type(&span, value.get_ref(), schema, path);
            return false;
        };
        match value.get_mut() {
            DeValue::Table(table)
                if schema["x-kind"] == "event" || schema["x-kind"] == "mapping" =>
            {
                self.free(table, path)
            }
            DeValue::Table(table) => {
                self.table(table, schema, path);
                true
            }
            DeValue::Array(items) => {
                let mut all = true;
                for (position, item) in items.iter_mut().enumerate() {
                    all &= self.value(item, &schema["items"], &format!("{path}[{position}]"));
                }
                all
            }
            DeValue::String(text) => self.choice(&span, text, schema, path),
            DeValue::Integer(number) => {
                let parsed = i128::from_str_radix(number.as_str(), number.radix());
                self.range(&span, parsed.ok(), schema, path)
            }
            DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => true,
        }
    }

    /// An event may hold anything that JSON can say.
    fn free(&mut self, table: &DeTable<'_>, path: &str) -> bool {
        let mut all = true;
        for (key, value) in table {
            all &= self.free_value(value, &join(path, key.get_ref()));
        }
        all
    }

    fn free_value(&mut self, value: &Spanned<DeValue<'_>>, path: &str) -> bool {
        let help = match value.get_ref() {
            DeValue::Table(table) => return self.free(table, path),
            DeValue::Array(items) => {
                let items = items.iter().enumerate();
                return items.fold(true, |all, (position, item)| {
                    self.free_value(item, &format!("{path}[{position}]")) && all
                });
            }
            DeValue::Datetime(_) => "write it as a string, in quotes",
            DeValue::Float(float) if float.as_str().contains(['n', 'f']) => "leave it out",
            DeValue::Float(_) | DeValue::String(_) | DeValue::Integer(_) | DeValue::Boolean(_) => {
                return true;
            }
        };
        self.report.error(&value.span(), path, "JSON has no such value", help);
        false
    }

    fn choice(&mut self, span: &Range<usize>, text: &str, schema: &Value, path: &str) -> bool {
        let choices = choices(schema);
        if choices.is_empty() || choices.iter().any(|&(name, _)| name == text) {
            return true;
        }
        if path.ends_with(".type") && TYPES_NOT_YET.contains(&text) {
            let message = format!("this version of consentd does not have the type `{text}`");
            let known = suggest::list(choices.iter().map(|choice| choice.0)).unwrap_or_default();
            self.report.error(span, path, message, format!("write one of {known}"));
            return false;
        }
        let names = choices.iter().map(|&(name, _)| name);
        let all = suggest::list(names.clone()).unwrap_or_default();
        let guess = suggest::closest(text, names)
            .map(|name| format!(" (did you mean `{name}`?)"))
            .unwrap_or_default();
        let message = format!("`{}` is not a possible value", shown(text));
        self.report.error(span, path, message, format!("write one of {all}{guess}"));
        false
    }

    fn range(
        &mut self,
        span: &Range<usize>,
        number: Option<i128>,
        schema: &Value,
        path: &str,
    ) -> bool {
        let bound = |name: &str| schema[name].as_i64().map(i128::from);
        let (min, max) = (bound("minimum"), bound("maximum"));
        let inside = number.is_some_and(|number| {
            min.is_none_or(|min| number >= min)
                && max.is_none_or(|max| number <= max)
                && i64::try_from(number).is_ok()
        });
        if !inside {
            let help = match (min, max) {
                (Some(min), Some(max)) => format!("write a number from {min} to {max}"),
                (Some(min), None) => format!("write a number that is {min} or more"),
                _ => String::new(),
            };
            self.report.error(span, path, "the number is out of range", help);
        }
        inside
    }

    fn wrong_type(&mut self, span: &Range<usize>, value: &DeValue<'_>, schema: &Value, path: &str) {
        let message = format!("expected {}, found {}", expected(schema), article(value.type_str()));
        let name = path.rsplit('.').next().unwrap_or(path);
        self.report.error(span, path, message, example(name, schema));
    }

    fn unknown(
        &mut self,
        span: &Range<usize>,
        name: &str,
        path: &str,
        schema: &Value,
        present: &[String],
    ) {
        let what = if path == name { "section" } else { "key" };
        let properties = schema["properties"].as_object();
        let known = || properties.into_iter().flat_map(|p| p.keys().map(String::as_str));
        let guess = suggest::closest(name, known());
        if guess.is_none() && NOT_YET.contains(&name) {
            let message = format!("this version of consentd does not have the {what} `{name}`");
            self.report.error(span, path, message, "take it out");
            return;
        }
        if let Some(guess) = guess
            && !present.iter().any(|key| key == guess)
        {
            // What was meant is there: it must not be reported as missing too.
            let parent = path.strip_suffix(name).unwrap_or_default();
            self.report.spoil(&format!("{parent}{guess}"));
        }
        let help = suggest::help(name, known().collect::<Vec<_>>());
        self.report.error(span, path, format!("unknown {what} `{}`", shown(name)), help);
    }

    /// Whether a known key belongs to the type of source or destination.
    fn belongs(
        &mut self,
        span: &Range<usize>,
        name: &str,
        path: &str,
        schema: &Value,
        kind: Option<&str>,
    ) -> bool {
        let (Some(kind), Some(types)) = (kind, schema["x-types"].as_array()) else {
            return true;
        };
        let types = types.iter().filter_map(Value::as_str);
        if types.clone().any(|owner| owner == kind) {
            return true;
        }
        let message = format!("`{name}` does not belong to type `{kind}`");
        let owners: Vec<String> = types.map(|owner| format!("type = \"{owner}\"")).collect();
        let help = format!("take it out: it is for {}", owners.join(" and "));
        self.report.error(span, path, message, help);
        false
    }
}

/// The value of `type`, where the schema has it as a choice and the document has a possible one.
fn type_of(table: &DeTable<'_>, schema: &Value) -> Option<String> {
    let kind = table.get("type")?.get_ref().as_str()?;
    let choices = choices(&schema["properties"]["type"]);
    choices.iter().any(|&(name, _)| name == kind).then(|| kind.to_owned())
}

/// The part of a schema that is for values of this type.
fn alternative<'s>(schema: &'s Value, value: &DeValue<'_>) -> Option<&'s Value> {
    if let Some(alternatives) = schema["anyOf"].as_array() {
        return alternatives.iter().find(|schema| fits(schema, value));
    }
    fits(schema, value).then_some(schema)
}

fn fits(schema: &Value, value: &DeValue<'_>) -> bool {
    let name = match value {
        DeValue::String(_) => "string",
        DeValue::Integer(_) => "integer",
        DeValue::Float(_) => "number",
        DeValue::Boolean(_) => "boolean",
        DeValue::Datetime(_) => "datetime",
        DeValue::Array(_) => "array",
        DeValue::Table(_) => "object",
    };
    match &schema["type"] {
        Value::String(kind) => kind == name,
        Value::Array(kinds) => kinds.iter().any(|kind| kind == name),
        // A list of described choices; they are strings.
        _ => name == "string",
    }
}

fn expected(schema: &Value) -> &'static str {
    match schema["x-kind"].as_str() {
        Some("size") => return "a size",
        Some("duration") => return "a duration",
        Some("secret") => return "a string or { file = \"...\" }",
        Some("event") => return "a table or a string",
        Some("consent") => return "a table or \"none\"",
        _ => {}
    }
    match schema["type"].as_str() {
        Some("integer") => "an integer",
        Some("boolean") => "true or false",
        Some("array") if schema["items"]["type"] == "object" => "a list of tables",
        Some("array") => "a list",
        Some("object") => "a table",
        _ => "a string",
    }
}

/// What a value of the schema looks like.
fn example(name: &str, schema: &Value) -> String {
    let value = match (&schema["default"], schema["x-kind"].as_str()) {
        (Value::Null, Some("size")) => "\"8MiB\"".to_owned(),
        (Value::Null, Some("duration")) => "\"30s\"".to_owned(),
        (Value::Null, _) => match (schema["type"].as_str(), choices(schema).first()) {
            (_, Some((choice, _))) => format!("\"{choice}\""),
            (Some("array"), _) if schema["items"]["type"] == "object" => {
                return format!("write [[{name}]]");
            }
            (Some("array"), _) => "[\"...\"]".to_owned(),
            (Some("object"), _) => "{ ... }".to_owned(),
            (Some("integer"), _) => "1".to_owned(),
            (Some("string"), _) => "\"...\"".to_owned(),
            _ => return String::new(),
        },
        (default, _) => default.to_string(),
    };
    if name.ends_with(']') {
        return format!("write {value}");
    }
    format!("write {name} = {value}")
}

fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}

pub(super) fn join(path: &str, name: &str) -> String {
    let plain = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let name = if plain { name.to_owned() } else { format!("\"{}\"", shown(name)) };
    if path.is_empty() { name } else { format!("{path}.{name}") }
}

/// Text from the file, made fit for one line of a terminal.
pub(super) fn shown(text: &str) -> String {
    let text: String = text.chars().take(80).collect();
    text.escape_debug().to_string()
}
