//! A value as bytes to hash: a tag, and where the length is not known from it, the length.

use super::{Column, Values};

/// One for each kind of value; never to be given to another kind, because hashes are kept.
mod tag {
    pub(super) const NULL: u8 = 0;
    pub(super) const FALSE: u8 = 1;
    pub(super) const TRUE: u8 = 2;
    pub(super) const INTEGER: u8 = 3;
    pub(super) const UNSIGNED: u8 = 4;
    pub(super) const FLOAT: u8 = 5;
    pub(super) const TEXT: u8 = 6;
    pub(super) const BYTES: u8 = 7;
    pub(super) const JSON: u8 = 8;
}

impl Column {
    /// Appends the value.
    pub(in crate::warehouse) fn content(&self, row: usize, into: &mut Vec<u8>) {
        if self.is_null(row) {
            into.push(tag::NULL);
            return;
        }
        if let Some(integer) = self.integer(row) {
            return fixed(tag::INTEGER, integer.to_le_bytes(), into);
        }
        match &self.values {
            Values::Boolean(values) => {
                into.push(if values.value(row) { tag::TRUE } else { tag::FALSE });
            }
            Values::U64(values) => fixed(tag::UNSIGNED, values.value(row).to_le_bytes(), into),
            Values::F16(values) => float(values.value(row).to_f64(), into),
            Values::F32(values) => float(values.value(row).into(), into),
            Values::F64(values) => float(values.value(row), into),
            Values::Text(_) | Values::LargeText(_) | Values::TextView(_) => {
                sized(tag::TEXT, self.text(row).unwrap_or_default(), into);
            }
            Values::Binary(_)
            | Values::LargeBinary(_)
            | Values::BinaryView(_)
            | Values::FixedBinary(_) => {
                sized(tag::BYTES, self.bytes(row).unwrap_or_default(), into);
            }
            Values::Indirect(column, at) => column.content(at[row], into),
            Values::Union(..) => {
                if let Some((child, at)) = self.child(row) {
                    child.content(at, into);
                }
            }
            // What an event would hold of it.
            Values::Decimal(..)
            | Values::BigDecimal(..)
            | Values::Time(..)
            | Values::Interval(_)
            | Values::Json(_)
            | Values::List(..)
            | Values::Struct(_)
            | Values::Map(..) => {
                into.push(tag::JSON);
                let start = into.len();
                into.extend_from_slice(&[0; 8]);
                self.json(row, into);
                let length = (into.len() - start - 8) as u64;
                into[start..start + 8].copy_from_slice(&length.to_le_bytes());
            }
            // `is_null` and `integer` have answered for these.
            Values::Null
            | Values::I8(_)
            | Values::I16(_)
            | Values::I32(_)
            | Values::I64(_)
            | Values::U8(_)
            | Values::U16(_)
            | Values::U32(_) => {}
        }
    }
}

fn fixed(tag: u8, bytes: [u8; 8], into: &mut Vec<u8>) {
    into.push(tag);
    into.extend_from_slice(&bytes);
}

/// Every NaN is the same NaN.
fn float(number: f64, into: &mut Vec<u8>) {
    let number = if number.is_nan() { f64::NAN } else { number };
    fixed(tag::FLOAT, number.to_bits().to_le_bytes(), into);
}

fn sized(tag: u8, bytes: &[u8], into: &mut Vec<u8>) {
    fixed(tag, (bytes.len() as u64).to_le_bytes(), into);
    into.extend_from_slice(bytes);
}
