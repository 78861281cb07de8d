//! What a row becomes: a template with places for columns, compiled once. Pure.

use std::convert::Infallible;

use super::cell::{Column, write_string};
use super::consent::Granted;
use crate::config::{Model, ModelConsent, Nulls, Template};

/// A template, ready to be filled.
#[derive(Clone, Debug)]
pub(super) enum Part {
    /// JSON that is the same for every row.
    Fixed(Vec<u8>),
    /// The value of a column, by its position.
    Column(usize),
    /// Names with their colon, and values.
    Object(Vec<(Vec<u8>, Part)>),
    /// Elements.
    Array(Vec<Part>),
    /// The messageId.
    MessageId,
    /// The consent object.
    Consent,
}

/// What is filled in.
pub(super) struct Row<'r> {
    pub(super) columns: &'r [Option<Column>],
    pub(super) row: usize,
    pub(super) message_id: &'r str,
    pub(super) granted: Granted,
}

/// The event of a model: its fields, the messageId, and the consent object where there is one.
#[derive(Clone, Debug)]
pub(super) struct Mapping {
    part: Part,
    omit: bool,
    /// Names of the categories with their colon.
    categories: Vec<Vec<u8>>,
    /// Whether no column stands where the decision looks.
    is_decided_by_grants: bool,
}

impl Mapping {
    /// Compiles `event`; `position` finds a column by name.
    pub(super) fn new<E>(
        model: &Model,
        mut position: impl FnMut(&str) -> Result<usize, E>,
    ) -> Result<Self, E> {
        let mut fields = compile_fields(&model.event, &mut position)?;
        let categories = match &model.consent {
            ModelConsent::Columns(columns) => {
                put(&mut fields, &model.consent_location, Part::Consent);
                columns.iter().map(|(category, _)| name(category)).collect()
            }
            ModelConsent::None => Vec::new(),
        };
        fields.push((name("messageId"), Part::MessageId));
        let is_decided_by_grants = is_decided_by_grants(model);
        let (part, omit) = (Part::Object(fields), model.null_values == Nulls::Omit);
        Ok(Self { part, omit, categories, is_decided_by_grants })
    }

    /// Whether the decision on an event depends on what its row grants, and on nothing else of the row.
    pub(super) fn is_decided_by_grants(&self) -> bool {
        self.is_decided_by_grants
    }

    /// Appends the event of a row.
    #[inline]
    pub(super) fn write(&self, row: &Row<'_>, into: &mut Vec<u8>) {
        self.part(&self.part, row, into);
    }

    fn part(&self, part: &Part, row: &Row<'_>, into: &mut Vec<u8>) {
        match part {
            Part::Fixed(json) => into.extend_from_slice(json),
            Part::Column(at) => match &row.columns[*at] {
                Some(column) => column.json(row.row, into),
                None => into.extend_from_slice(b"null"),
            },
            Part::MessageId => write_string(row.message_id.as_bytes(), into),
            Part::Consent => self.consent(row.granted, into),
            Part::Object(fields) => {
                into.push(b'{');
                let mut first = true;
                for (name, part) in fields {
                    if self.omit && is_absent(part, row) {
                        continue;
                    }
                    if !first {
                        into.push(b',');
                    }
                    first = false;
                    into.extend_from_slice(name);
                    self.part(part, row, into);
                }
                into.push(b'}');
            }
            Part::Array(items) => {
                into.push(b'[');
                for (at, item) in items.iter().enumerate() {
                    if at > 0 {
                        into.push(b',');
                    }
                    self.part(item, row, into);
                }
                into.push(b']');
            }
        }
    }

    fn consent(&self, granted: Granted, into: &mut Vec<u8>) {
        into.push(b'{');
        for (at, name) in self.categories.iter().enumerate() {
            if at > 0 {
                into.push(b',');
            }
            into.extend_from_slice(name);
            let value: &[u8] = if granted.has(at) { b"true" } else { b"false" };
            into.extend_from_slice(value);
        }
        into.push(b'}');
    }
}

/// The consent object is the first that is looked for, so where there is one, no other is read.
fn is_decided_by_grants(model: &Model) -> bool {
    let looked_at: &[&str] = match model.consent {
        ModelConsent::Columns(_) => &["type", "event", "integrations"],
        ModelConsent::None => &["type", "event", "integrations", "context"],
    };
    let mut fields = model.event.iter();
    !fields.any(|(field, template)| looked_at.contains(&field.as_str()) && has_column(template))
}

fn has_column(template: &Template) -> bool {
    match template {
        Template::Column(_) => true,
        Template::Text(_) | Template::Value(_) => false,
        Template::List(items) => items.iter().any(has_column),
        Template::Table(fields) => fields.iter().any(|(_, template)| has_column(template)),
    }
}

fn is_absent(part: &Part, row: &Row<'_>) -> bool {
    let Part::Column(at) = part else { return false };
    row.columns[*at].as_ref().is_none_or(|column| column.is_absent(row.row))
}

/// Events without the values of a row, its consent alone: to ask who may have it.
#[derive(Debug)]
pub struct Blank(Mapping);

impl Blank {
    /// Those of a model.
    #[must_use]
    pub fn new(model: &Model) -> Self {
        let Ok(mapping) = Mapping::new(model, |_| Ok::<_, Infallible>(0));
        Self(mapping)
    }

    /// Appends one as a line without its end.
    pub fn write(&self, granted: Granted, message_id: &str, into: &mut Vec<u8>) {
        self.0.write(&Row { columns: &[None], row: 0, message_id, granted }, into);
    }
}

/// Appends the line of a deletion, without its end: `id_json` is all that it has of the row.
pub fn deletion(model: &Model, id_json: &str, message_id: &str, into: &mut Vec<u8>) {
    into.push(b'{');
    for (field, template) in &model.deletion {
        into.extend_from_slice(&name(field));
        deleted(template, id_json, into);
        into.push(b',');
    }
    into.extend_from_slice(b"\"messageId\":");
    write_string(message_id.as_bytes(), into);
    into.push(b'}');
}

fn deleted(template: &Template, id_json: &str, into: &mut Vec<u8>) {
    match template {
        // No other column is possible here.
        Template::Column(_) => into.extend_from_slice(id_json.as_bytes()),
        Template::Text(text) => write_string(text.as_bytes(), into),
        Template::Value(value) => into.extend_from_slice(value.to_string().as_bytes()),
        Template::List(items) => {
            into.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    into.push(b',');
                }
                deleted(item, id_json, into);
            }
            into.push(b']');
        }
        Template::Table(fields) => {
            into.push(b'{');
            for (at, (field, template)) in fields.iter().enumerate() {
                if at > 0 {
                    into.push(b',');
                }
                into.extend_from_slice(&name(field));
                deleted(template, id_json, into);
            }
            into.push(b'}');
        }
    }
}

fn compile_fields<E>(
    fields: &[(String, Template)],
    position: &mut impl FnMut(&str) -> Result<usize, E>,
) -> Result<Vec<(Vec<u8>, Part)>, E> {
    let field =
        |(field, template): &(String, Template)| Ok((name(field), compile(template, position)?));
    fields.iter().map(field).collect()
}

fn compile<E>(
    template: &Template,
    position: &mut impl FnMut(&str) -> Result<usize, E>,
) -> Result<Part, E> {
    Ok(match template {
        Template::Column(name) => Part::Column(position(name)?),
        Template::Text(text) => {
            let mut json = Vec::new();
            write_string(text.as_bytes(), &mut json);
            Part::Fixed(json)
        }
        Template::Value(value) => Part::Fixed(value.to_string().into_bytes()),
        Template::List(items) => {
            let items = items.iter().map(|item| compile(item, position));
            Part::Array(items.collect::<Result<_, _>>()?)
        }
        Template::Table(fields) => Part::Object(compile_fields(fields, position)?),
    })
}

/// A name as JSON, with its colon.
fn name(name: &str) -> Vec<u8> {
    let mut json = Vec::new();
    write_string(name.as_bytes(), &mut json);
    json.push(b':');
    json
}

/// Puts `part` at the end of a path of objects, which are made where they are not there.
fn put(fields: &mut Vec<(Vec<u8>, Part)>, path: &[String], part: Part) {
    let Some((first, rest)) = path.split_first() else { return };
    let key = name(first);
    if rest.is_empty() {
        fields.push((key, part));
        return;
    }
    // The config lets nothing but a table stand on this path.
    if let Some((_, Part::Object(inner))) = fields.iter_mut().find(|(name, _)| *name == key) {
        put(inner, rest, part);
        return;
    }
    let mut inner = Vec::new();
    put(&mut inner, rest, part);
    fields.push((key, Part::Object(inner)));
}
