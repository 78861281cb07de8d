//! Values of Arrow columns: as JSON, as bytes to hash, and as consent. Pure.
//!
//! Owns every Arrow type that drivers give. A column is bound once for a batch; after that a value is
//! read without allocating.
//!
//! What always holds: two values that differ have other bytes in [`Column::content`], whatever batch
//! or array they are in, and two equal ones of one kind (integers of any width, text of any layout)
//! have the same; JSON is written on one line.

mod bind;
mod canonical;
mod json;
mod number;
mod text;
mod time;

use arrow_array::types::{
    ArrowDictionaryKeyType, Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, BinaryArray, BinaryViewArray, BooleanArray, Decimal128Array, Decimal256Array,
    FixedSizeBinaryArray, Int64Array, LargeBinaryArray, LargeStringArray, PrimitiveArray,
    StringArray, StringViewArray, UnionArray,
};
use arrow_buffer::{IntervalMonthDayNano, NullBuffer};

pub(super) use bind::{bind, foreign, is_json, is_uuid, unsupported};
pub(super) use text::write_string;
use time::Clock;

/// A column of a batch.
#[derive(Debug)]
pub(super) struct Column {
    nulls: Option<NullBuffer>,
    values: Values,
}

/// The values, by type.
#[derive(Debug)]
enum Values {
    Null,
    Boolean(BooleanArray),
    I8(PrimitiveArray<Int8Type>),
    I16(PrimitiveArray<Int16Type>),
    I32(PrimitiveArray<Int32Type>),
    I64(PrimitiveArray<Int64Type>),
    U8(PrimitiveArray<UInt8Type>),
    U16(PrimitiveArray<UInt16Type>),
    U32(PrimitiveArray<UInt32Type>),
    U64(PrimitiveArray<UInt64Type>),
    F16(PrimitiveArray<Float16Type>),
    F32(PrimitiveArray<Float32Type>),
    F64(PrimitiveArray<Float64Type>),
    /// With their scale.
    Decimal(Decimal128Array, i8),
    BigDecimal(Decimal256Array, i8),
    /// Everything that counts units of time, widened.
    Time(Int64Array, Clock),
    Interval(Vec<IntervalMonthDayNano>),
    Text(StringArray),
    LargeText(LargeStringArray),
    TextView(StringViewArray),
    /// Text that its column says to be JSON.
    Json(Box<Column>),
    Binary(BinaryArray),
    LargeBinary(LargeBinaryArray),
    BinaryView(BinaryViewArray),
    FixedBinary(FixedSizeBinaryArray),
    /// Start and end in the column of elements.
    List(Box<Column>, Vec<(usize, usize)>),
    /// Names as JSON with their colon.
    Struct(Vec<(Vec<u8>, Column)>),
    /// Keys and values, start and end.
    Map(Box<(Column, Column)>, Vec<(usize, usize)>),
    /// Positions in another column.
    Indirect(Box<Column>, Vec<usize>),
    /// Children by type ID.
    Union(UnionArray, Vec<Option<Column>>),
}

impl Column {
    /// Whether there is no value.
    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return true;
        }
        match &self.values {
            Values::Null => true,
            Values::Json(text) => text.is_null(row),
            Values::Indirect(column, at) => column.is_null(at[row]),
            Values::Union(..) => self.child(row).is_none_or(|(child, at)| child.is_null(at)),
            _ => false,
        }
    }

    /// The child of a union, and the row in it.
    fn child(&self, row: usize) -> Option<(&Self, usize)> {
        let Values::Union(union, children) = &self.values else { return None };
        let child = usize::try_from(union.type_id(row)).ok()?;
        Some((children.get(child)?.as_ref()?, union.value_offset(row)))
    }

    /// The boolean true, and nothing that is only like it.
    pub(super) fn is_true(&self, row: usize) -> bool {
        !self.is_null(row)
            && match &self.values {
                Values::Boolean(values) => values.value(row),
                Values::Indirect(column, at) => column.is_true(at[row]),
                Values::Union(..) => self.child(row).is_some_and(|(child, at)| child.is_true(at)),
                _ => false,
            }
    }

    /// A number that is exactly 1.
    pub(super) fn is_number_one(&self, row: usize) -> bool {
        if self.is_null(row) {
            return false;
        }
        match &self.values {
            Values::I8(values) => values.value(row) == 1,
            Values::I16(values) => values.value(row) == 1,
            Values::I32(values) => values.value(row) == 1,
            Values::I64(values) => values.value(row) == 1,
            Values::U8(values) => values.value(row) == 1,
            Values::U16(values) => values.value(row) == 1,
            Values::U32(values) => values.value(row) == 1,
            Values::U64(values) => values.value(row) == 1,
            Values::F16(values) => values.value(row).to_f32() == 1.0,
            Values::F32(values) => values.value(row) == 1.0,
            Values::F64(values) => values.value(row) == 1.0,
            Values::Decimal(values, scale) => number::is_one(values.value(row), *scale),
            Values::BigDecimal(values, scale) => number::is_big_one(values.value(row), *scale),
            Values::Indirect(column, at) => column.is_number_one(at[row]),
            Values::Union(..) => self.child(row).is_some_and(|(child, at)| child.is_number_one(at)),
            _ => false,
        }
    }

    /// Whether the value is JSON.
    pub(super) fn is_json(&self, row: usize) -> bool {
        match &self.values {
            Values::Json(_) => true,
            Values::Indirect(column, at) => !self.is_null(row) && column.is_json(at[row]),
            Values::Union(..) => self.child(row).is_some_and(|(child, at)| child.is_json(at)),
            _ => false,
        }
    }

    /// Whether no value has values in it.
    pub(super) fn is_flat(&self) -> bool {
        !matches!(
            self.values,
            Values::Json(_)
                | Values::List(..)
                | Values::Struct(_)
                | Values::Map(..)
                | Values::Indirect(..)
                | Values::Union(..)
        )
    }

    /// The bytes of a text.
    #[inline]
    pub(super) fn text(&self, row: usize) -> Option<&[u8]> {
        if self.is_null(row) {
            return None;
        }
        match &self.values {
            Values::Text(values) => Some(values.value(row).as_bytes()),
            Values::LargeText(values) => Some(values.value(row).as_bytes()),
            Values::TextView(values) => Some(values.value(row).as_bytes()),
            Values::Json(text) => text.text(row),
            Values::Indirect(column, at) => column.text(at[row]),
            Values::Union(..) => self.child(row).and_then(|(child, at)| child.text(at)),
            _ => None,
        }
    }

    /// The bytes of a binary value.
    fn bytes(&self, row: usize) -> Option<&[u8]> {
        match &self.values {
            Values::Binary(values) => Some(values.value(row)),
            Values::LargeBinary(values) => Some(values.value(row)),
            Values::BinaryView(values) => Some(values.value(row)),
            Values::FixedBinary(values) => Some(values.value(row)),
            _ => None,
        }
    }

    /// An integer of any width.
    #[inline]
    fn integer(&self, row: usize) -> Option<i64> {
        match &self.values {
            Values::I8(values) => Some(values.value(row).into()),
            Values::I16(values) => Some(values.value(row).into()),
            Values::I32(values) => Some(values.value(row).into()),
            Values::I64(values) => Some(values.value(row)),
            Values::U8(values) => Some(values.value(row).into()),
            Values::U16(values) => Some(values.value(row).into()),
            Values::U32(values) => Some(values.value(row).into()),
            Values::U64(values) => i64::try_from(values.value(row)).ok(),
            _ => None,
        }
    }
}

/// The positions that a dictionary's keys lead to; NULL keys lead to the first value, and nobody asks.
fn keys<K: ArrowDictionaryKeyType>(array: &PrimitiveArray<K>) -> Vec<usize>
where
    K::Native: TryInto<usize>,
{
    let key =
        |row: usize| if array.is_null(row) { 0 } else { array.value(row).try_into().unwrap_or(0) };
    (0..array.len()).map(key).collect()
}
