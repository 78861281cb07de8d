//! Rows of one model: what is hashed, what is granted, what is sent. Pure.

use std::collections::BTreeSet;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Schema};

use super::cell::{self, Column};
use super::consent::{Granted, grants};
use super::error::{Error, Failure};
use super::mapping::{Mapping, Row};
use crate::config::{ConsentCast, Model, ModelConsent, suggest};

/// A model and the columns of its query, put together before the first row.
#[derive(Debug)]
pub struct RowShape {
    id: usize,
    /// Positions of the consent columns, in the order of the model.
    consent: Vec<usize>,
    cast: ConsentCast,
    /// Positions of the columns that are hashed, in the order of their names.
    tracked: Vec<usize>,
    /// What is hashed before the values: which columns they are.
    heading: [u8; 16],
    /// Whether a column is used at all.
    used: Vec<bool>,
    names: Vec<String>,
    mapping: Mapping,
    remarks: Vec<String>,
}

impl RowShape {
    /// Finds every column that the model names.
    ///
    /// # Errors
    /// By name: a column that is not there, stands there twice, or has a type that no event can hold;
    /// or the columns are more than the model's limit.
    pub fn new(model: &Model, schema: &Schema) -> Result<Self, Error> {
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        if names.len() > model.limits.columns {
            return Err(rows(format!(
                "the query of the model `{}` has {} columns, its limits.columns is {}",
                model.name,
                names.len(),
                model.limits.columns
            )));
        }
        let find = |column: &str, key: &str| find(&names, column, &model.name, key);
        let id = find(&model.unique_id, "unique_id")?;
        let mut remarks = Vec::new();
        let mut consent = Vec::new();
        if let ModelConsent::Columns(columns) = &model.consent {
            for (category, column) in columns {
                let at = find(column, &format!("consent.{category}"))?;
                remarks.extend(doubt(column, schema.field(at).data_type(), model.consent_cast));
                consent.push(at);
            }
        }
        let mut tracked: BTreeSet<usize> = match &model.track_columns {
            None => (0..names.len()).collect(),
            Some(columns) => columns
                .iter()
                .map(|column| find(column, "track_columns"))
                .collect::<Result<_, _>>()?,
        };
        tracked.insert(id);
        tracked.extend(&consent);
        let mut used: Vec<bool> = (0..names.len()).map(|at| tracked.contains(&at)).collect();
        let mut shown = BTreeSet::from([id]);
        let mapping = Mapping::new(model, |column| {
            let at = find(column, "event")?;
            used[at] = true;
            shown.insert(at);
            Ok::<_, Error>(at)
        })?;
        for (at, field) in schema.fields().iter().enumerate().filter(|(at, _)| used[*at]) {
            if let Some(kind) = cell::unsupported(field.data_type()) {
                return Err(rows(format!(
                    "the column `{}` has the type {kind}, which no event can hold; cast it in the query",
                    names[at]
                )));
            }
        }
        for at in shown {
            if let Some(what) = cell::foreign(schema.field(at)) {
                return Err(rows(format!("the column `{}` {what}", names[at])));
            }
        }
        let mut tracked: Vec<usize> = tracked.into_iter().collect();
        tracked.sort_by(|&one, &other| names[one].cmp(&names[other]));
        Ok(Self {
            id,
            consent,
            cast: model.consent_cast,
            heading: heading(model, &tracked, &names),
            tracked,
            used,
            names,
            mapping,
            remarks,
        })
    }

    /// Everything that keeps a query with these columns from being sent, each with a key of the model.
    #[must_use]
    pub fn problems(model: &Model, schema: &Schema) -> Vec<String> {
        let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut problems: Vec<String> = model
            .columns()
            .into_iter()
            .filter_map(|(key, column)| find(&names, column, &model.name, &key).err())
            .map(|error| error.to_string())
            .collect();
        problems.dedup();
        if problems.is_empty() {
            problems.extend(Self::new(model, schema).err().map(|error| error.to_string()));
        }
        problems
    }

    /// Position of the unique id.
    #[must_use]
    pub fn id_at(&self) -> usize {
        self.id
    }

    /// Positions of the columns that make a row another one, the id and the consent columns among them.
    #[must_use]
    pub fn tracked_at(&self) -> &[usize] {
        &self.tracked
    }

    /// What is odd about the columns, for people.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Makes the columns of a batch ready to be read.
    ///
    /// # Errors
    /// The columns are others than those of the schema, or have a type that no event can hold.
    pub fn bind(&self, batch: &RecordBatch) -> Result<BoundBatch<'_>, Error> {
        let schema = batch.schema();
        let same = schema.fields().iter().map(|field| field.name()).eq(self.names.iter());
        if !same {
            return Err(rows("the columns changed in the middle of the rows".to_owned()));
        }
        let mut columns = Vec::with_capacity(self.names.len());
        for (at, field) in schema.fields().iter().enumerate() {
            let column = if self.used[at] {
                let bound = cell::bind(batch.column(at), field);
                Some(bound.ok_or_else(|| {
                    let kind = field.data_type();
                    rows(format!("the column `{}` has the type {kind}, which no event can hold; cast it in the query", field.name()))
                })?)
            } else {
                None
            };
            columns.push(column);
        }
        Ok(BoundBatch { shape: self, rows: batch.num_rows(), columns })
    }
}

/// A batch of rows of a model. Positions of rows are below [`BoundBatch::rows`].
#[derive(Debug)]
pub struct BoundBatch<'s> {
    shape: &'s RowShape,
    rows: usize,
    columns: Vec<Option<Column>>,
}

impl BoundBatch<'_> {
    /// How many rows there are.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends the unique id as JSON; nothing, and false, if it is NULL or has no value in JSON.
    pub fn id(&self, row: usize, into: &mut Vec<u8>) -> bool {
        let Some(column) = self.column(self.shape.id) else { return false };
        if column.is_absent(row) {
            return false;
        }
        let start = into.len();
        column.json(row, into);
        let null = &into[start..] == b"null";
        if null {
            into.truncate(start);
        }
        !null
    }

    /// Appends what tells one content of a row from another: the tracked columns, those of the consent
    /// and the id always among them.
    pub fn content(&self, row: usize, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.shape.heading);
        for &at in &self.shape.tracked {
            if let Some(column) = self.column(at) {
                column.content(row, into);
            }
        }
    }

    /// The categories that the row grants, by their position in the model's `consent`.
    #[must_use]
    pub fn granted(&self, row: usize) -> Granted {
        let mut granted = Granted::default();
        for (position, &at) in self.shape.consent.iter().enumerate() {
            if self.column(at).is_some_and(|column| grants(column, row, self.shape.cast)) {
                granted.grant(position);
            }
        }
        granted
    }

    /// Whether the decision on the event of any row depends on what it grants alone. A value with a depth
    /// of its own could make an event one that is rejected.
    #[must_use]
    pub fn is_decided_by_grants(&self) -> bool {
        let mut columns = self.columns.iter().flatten();
        self.shape.mapping.is_decided_by_grants() && columns.all(Column::is_flat)
    }

    /// Appends the event of the row as one line without its end, `messageId` and consent object
    /// included.
    pub fn event(&self, row: usize, message_id: &str, into: &mut Vec<u8>) {
        let granted = self.granted(row);
        let row = Row { columns: &self.columns, row, message_id, granted };
        self.shape.mapping.write(&row, into);
    }

    /// Appends the row as a JSON object of its columns, as far as the model uses them.
    pub fn raw(&self, row: usize, into: &mut Vec<u8>) {
        into.push(b'{');
        let mut first = true;
        for (name, column) in self.shape.names.iter().zip(&self.columns) {
            let Some(column) = column else { continue };
            if !first {
                into.push(b',');
            }
            first = false;
            cell::write_string(name.as_bytes(), into);
            into.push(b':');
            column.json(row, into);
        }
        into.push(b'}');
    }

    fn column(&self, at: usize) -> Option<&Column> {
        self.columns[at].as_ref()
    }
}

fn rows(message: String) -> Error {
    Error::new(Failure::Rows, message)
}

fn find(names: &[String], column: &str, model: &str, key: &str) -> Result<usize, Error> {
    let mut found = (0..).zip(names).filter(|(_, name)| *name == column).map(|(at, _)| at);
    match (found.next(), found.next()) {
        (Some(at), None) => Ok(at),
        (Some(_), Some(_)) => Err(rows(format!(
            "models.{model}.{key}: the query returns the column `{column}` twice; name one of them \
             differently, with `as`"
        ))),
        (None, _) => {
            let help = suggest::help(column, names.iter().map(String::as_str));
            Err(rows(format!(
                "models.{model}.{key}: the query does not return the column `{column}`; {help}"
            )))
        }
    }
}

/// What is to be said of a consent column whose type can't grant.
fn doubt(column: &str, kind: &DataType, cast: ConsentCast) -> Option<String> {
    let plain = match kind {
        DataType::Dictionary(_, values) => values,
        other => other,
    };
    // Nothing is known of a column of nulls, or of one with several types.
    let open = matches!(plain, DataType::Boolean | DataType::Null | DataType::Union(..));
    (cast == ConsentCast::Strict && !open).then(|| {
        format!(
            "the consent column `{column}` has the type {kind}, not boolean: it grants nothing; cast it \
             in the query, or write consent_cast = \"lenient\""
        )
    })
}

/// Other columns, or the same under other names, are other contents; so are those from which consent is
/// read in another way.
fn heading(model: &Model, tracked: &[usize], names: &[String]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    let mut add = |name: &str| {
        hasher.update(&(name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
    };
    tracked.iter().for_each(|&at| add(&names[at]));
    if let ModelConsent::Columns(columns) = &model.consent {
        add(if model.consent_cast == ConsentCast::Lenient { "lenient" } else { "strict" });
        columns.iter().for_each(|(category, column)| {
            add(category);
            add(column);
        });
    }
    let mut heading = [0; 16];
    heading.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    heading
}
