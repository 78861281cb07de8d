//! Values of SQLite as Arrow arrays. A column of SQLite may hold values of any type, whatever it was
//! declared as, so the type of an array is that of the values in the batch; where they differ it is a
//! union, in which each value keeps its own.
//!
//! The declared type says two things: in a `BOOLEAN` column 0 is false and 1 is true (any other value
//! stays what it is), and the text in a `JSON` column is JSON.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::builder::{
    BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder,
};
use arrow_array::{ArrayRef, NullArray, UnionArray};
use arrow_buffer::ScalarBuffer;
use arrow_schema::extension::EXTENSION_TYPE_NAME_KEY;
use arrow_schema::{DataType, Field, UnionFields};
use rusqlite::types::ValueRef;

use crate::warehouse::error::{Error, Failure};

/// A result column as the query declares it.
#[derive(Clone, Debug)]
pub(super) struct Declared {
    name: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Boolean,
    Json,
    Other(Affinity),
}

/// What SQLite tries to store in such a column; `None` for expressions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Affinity {
    Integer,
    Real,
    Text,
    Blob,
    None,
}

/// Types of columns that keep every value as it is, whatever its type (SQLite does where `BLOB` is part of
/// the name), and are read as those that they stand for.
const KEPT: [(Kind, &str); 6] = [
    (Kind::Boolean, "BOOLEAN BLOB"),
    (Kind::Json, "JSON BLOB"),
    (Kind::Other(Affinity::Integer), "NUMBER BLOB"),
    (Kind::Other(Affinity::Real), "FRACTION BLOB"),
    (Kind::Other(Affinity::Text), "WORDS BLOB"),
    (Kind::Other(Affinity::Blob), "BLOB"),
];

impl Declared {
    pub(super) fn new(name: &str, declared: Option<&str>) -> Self {
        let declared = declared.unwrap_or_default().to_ascii_uppercase();
        let holds = |parts: &[&str]| parts.iter().any(|part| declared.contains(part));
        let kind = if let Some((kind, _)) = KEPT.iter().find(|(_, name)| *name == declared) {
            *kind
        } else if declared.starts_with("BOOL") {
            Kind::Boolean
        } else if declared.starts_with("JSON") {
            Kind::Json
        } else if holds(&["INT"]) {
            Kind::Other(Affinity::Integer)
        } else if holds(&["CHAR", "CLOB", "TEXT"]) {
            Kind::Other(Affinity::Text)
        } else if holds(&["BLOB"]) {
            Kind::Other(Affinity::Blob)
        } else if holds(&["REAL", "FLOA", "DOUB"]) {
            Kind::Other(Affinity::Real)
        } else {
            Kind::Other(Affinity::None)
        };
        Self { name: name.to_owned(), kind }
    }

    /// The column in a table that keeps its values.
    pub(super) fn kept(&self) -> String {
        let kind = KEPT.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, name)| name);
        format!("\"{}\" {kind}", self.name.replace('"', "\"\""))
    }

    /// What the column most likely is.
    pub(super) fn field(&self) -> Field {
        self.field_of(match self.kind {
            Kind::Boolean => DataType::Boolean,
            Kind::Json | Kind::Other(Affinity::Text) => DataType::Utf8,
            Kind::Other(Affinity::Integer) => DataType::Int64,
            Kind::Other(Affinity::Real) => DataType::Float64,
            Kind::Other(Affinity::Blob) => DataType::Binary,
            Kind::Other(Affinity::None) => DataType::Null,
        })
    }

    fn field_of(&self, kind: DataType) -> Field {
        let field = Field::new(&self.name, kind, true);
        if self.kind != Kind::Json {
            return field;
        }
        let json = (EXTENSION_TYPE_NAME_KEY.to_owned(), "arrow.json".to_owned());
        field.with_metadata(HashMap::from([json]))
    }
}

/// The values of a column, until the batch is full.
#[derive(Debug)]
pub(super) struct Storage {
    declared: Declared,
    values: Values,
}

/// Values of one type as long as there is one.
#[derive(Debug)]
enum Values {
    /// So many NULLs, and nothing yet that has a type.
    Null(usize),
    Boolean(BooleanBuilder),
    Integer(Int64Builder),
    Real(Float64Builder),
    Text(StringBuilder),
    Blob(BinaryBuilder),
    Mixed(Box<Mixed>),
}

impl Storage {
    pub(super) fn new(declared: Declared) -> Self {
        Self { declared, values: Values::Null(0) }
    }

    /// Appends a value; the bytes that it takes.
    pub(super) fn push(&mut self, value: ValueRef<'_>) -> Result<usize, Error> {
        let boolean = self.declared.kind == Kind::Boolean;
        match (&mut self.values, value) {
            (Values::Null(count), ValueRef::Null) => *count += 1,
            (Values::Boolean(to), ValueRef::Null) => to.append_null(),
            (Values::Integer(to), ValueRef::Null) => to.append_null(),
            (Values::Real(to), ValueRef::Null) => to.append_null(),
            (Values::Text(to), ValueRef::Null) => to.append_null(),
            (Values::Blob(to), ValueRef::Null) => to.append_null(),
            (Values::Boolean(to), ValueRef::Integer(bit @ 0..=1)) => to.append_value(bit == 1),
            (Values::Integer(to), ValueRef::Integer(number)) if !(boolean && is_bit(number)) => {
                to.append_value(number);
            }
            (Values::Real(to), ValueRef::Real(number)) => to.append_value(number),
            (Values::Text(to), ValueRef::Text(bytes)) => {
                to.append_value(self.declared.text(bytes)?);
                return Ok(bytes.len());
            }
            (Values::Blob(to), ValueRef::Blob(bytes)) => {
                to.append_value(bytes);
                return Ok(bytes.len());
            }
            (Values::Mixed(mixed), value) => return mixed.push(&self.declared, value),
            (Values::Null(count), value) => {
                let nulls = *count;
                self.values = Values::for_value(value, boolean, nulls);
                return self.push(value);
            }
            (_, value) => {
                let so_far = std::mem::replace(&mut self.values, Values::Null(0));
                let mut mixed = Box::new(Mixed::default());
                mixed.take_over(so_far);
                self.values = Values::Mixed(mixed);
                return self.push(value);
            }
        }
        Ok(0)
    }

    /// What came since the last time.
    pub(super) fn finish(&mut self) -> Result<(Field, ArrayRef), Error> {
        let array: ArrayRef = match std::mem::replace(&mut self.values, Values::Null(0)) {
            Values::Null(count) => Arc::new(NullArray::new(count)),
            Values::Boolean(mut values) => Arc::new(values.finish()),
            Values::Integer(mut values) => Arc::new(values.finish()),
            Values::Real(mut values) => Arc::new(values.finish()),
            Values::Text(mut values) => Arc::new(values.finish()),
            Values::Blob(mut values) => Arc::new(values.finish()),
            Values::Mixed(mixed) => Arc::new(mixed.finish()?),
        };
        Ok((self.declared.field_of(array.data_type().clone()), array))
    }
}

impl Declared {
    fn text<'t>(&self, bytes: &'t [u8]) -> Result<&'t str, Error> {
        std::str::from_utf8(bytes).map_err(|_| {
            let message = format!(
                "the column `{}` holds text that is not valid UTF-8; cast it to a BLOB in the query",
                self.name
            );
            Error::new(Failure::Rows, message)
        })
    }
}

fn is_bit(number: i64) -> bool {
    matches!(number, 0 | 1)
}

impl Values {
    /// Empty but for NULLs, and ready for `value`.
    fn for_value(value: ValueRef<'_>, boolean: bool, nulls: usize) -> Self {
        macro_rules! builder {
            ($builder:ident, $values:ident) => {{
                let mut builder = $builder::new();
                for _ in 0..nulls {
                    builder.append_null();
                }
                Self::$values(builder)
            }};
        }
        match value {
            ValueRef::Null => Self::Null(nulls),
            ValueRef::Integer(0 | 1) if boolean => builder!(BooleanBuilder, Boolean),
            ValueRef::Integer(_) => builder!(Int64Builder, Integer),
            ValueRef::Real(_) => builder!(Float64Builder, Real),
            ValueRef::Text(_) => builder!(StringBuilder, Text),
            ValueRef::Blob(_) => builder!(BinaryBuilder, Blob),
        }
    }
}

/// A dense union with a child for each type; NULL is a NULL of the first.
#[derive(Debug, Default)]
struct Mixed {
    types: Vec<i8>,
    offsets: Vec<i32>,
    booleans: BooleanBuilder,
    integers: Int64Builder,
    reals: Float64Builder,
    texts: StringBuilder,
    blobs: BinaryBuilder,
    lengths: [i32; 5],
}

impl Mixed {
    fn push(&mut self, declared: &Declared, value: ValueRef<'_>) -> Result<usize, Error> {
        match value {
            ValueRef::Null => self.boolean(None),
            ValueRef::Integer(bit @ 0..=1) if declared.kind == Kind::Boolean => {
                self.boolean(Some(bit == 1));
            }
            ValueRef::Integer(number) => self.integer(number),
            ValueRef::Real(number) => self.real(number),
            ValueRef::Text(bytes) => {
                self.text(declared.text(bytes)?);
                return Ok(bytes.len());
            }
            ValueRef::Blob(bytes) => {
                self.blob(bytes);
                return Ok(bytes.len());
            }
        }
        Ok(0)
    }

    fn boolean(&mut self, value: Option<bool>) {
        self.booleans.append_option(value);
        self.place(0);
    }

    fn integer(&mut self, number: i64) {
        self.integers.append_value(number);
        self.place(1);
    }

    fn real(&mut self, number: f64) {
        self.reals.append_value(number);
        self.place(2);
    }

    fn text(&mut self, text: &str) {
        self.texts.append_value(text);
        self.place(3);
    }

    fn blob(&mut self, bytes: &[u8]) {
        self.blobs.append_value(bytes);
        self.place(4);
    }

    fn place(&mut self, child: i8) {
        // There are five children.
        let length = &mut self.lengths[usize::from(child.unsigned_abs())];
        self.types.push(child);
        self.offsets.push(*length);
        *length += 1;
    }

    /// The values that had one type until now.
    fn take_over(&mut self, values: Values) {
        macro_rules! each {
            ($builder:ident, $one:ident) => {
                for value in $builder.finish().iter() {
                    match value {
                        Some(value) => self.$one(value),
                        None => self.boolean(None),
                    }
                }
            };
        }
        match values {
            Values::Null(count) => (0..count).for_each(|_| self.boolean(None)),
            Values::Boolean(mut from) => from.finish().iter().for_each(|bit| self.boolean(bit)),
            Values::Integer(mut from) => each!(from, integer),
            Values::Real(mut from) => each!(from, real),
            Values::Text(mut from) => each!(from, text),
            Values::Blob(mut from) => each!(from, blob),
            Values::Mixed(other) => *self = *other,
        }
    }

    fn finish(mut self) -> Result<UnionArray, Error> {
        let children: Vec<ArrayRef> = vec![
            Arc::new(self.booleans.finish()),
            Arc::new(self.integers.finish()),
            Arc::new(self.reals.finish()),
            Arc::new(self.texts.finish()),
            Arc::new(self.blobs.finish()),
        ];
        let names = ["boolean", "integer", "real", "text", "blob"];
        let fields = names
            .iter()
            .zip(&children)
            .map(|(name, child)| Field::new(*name, child.data_type().clone(), true));
        let fields = UnionFields::try_new(0..5, fields);
        let made = fields.and_then(|fields| {
            UnionArray::try_new(
                fields,
                ScalarBuffer::from(self.types),
                Some(ScalarBuffer::from(self.offsets)),
                children,
            )
        });
        made.map_err(|error| Error::new(Failure::Rows, error.to_string()))
    }
}
