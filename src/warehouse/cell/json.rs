//! A value as JSON, on one line.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::text::{write_json_text, write_string};
use super::{Column, Values, number, time};

impl Column {
    /// Appends the value as JSON; NULL, NaN and the infinities, which JSON does not have, as `null`.
    pub(in crate::warehouse) fn json(&self, row: usize, into: &mut Vec<u8>) {
        if self.is_null(row) {
            into.extend_from_slice(b"null");
            return;
        }
        match &self.values {
            Values::Text(values) => return write_string(values.value(row).as_bytes(), into),
            Values::LargeText(values) => return write_string(values.value(row).as_bytes(), into),
            Values::TextView(values) => return write_string(values.value(row).as_bytes(), into),
            _ => {}
        }
        if let Some(integer) = self.integer(row) {
            into.extend_from_slice(itoa::Buffer::new().format(integer).as_bytes());
            return;
        }
        match &self.values {
            Values::Boolean(values) => {
                let word: &[u8] = if values.value(row) { b"true" } else { b"false" };
                into.extend_from_slice(word);
            }
            Values::U64(values) => {
                into.extend_from_slice(itoa::Buffer::new().format(values.value(row)).as_bytes());
            }
            Values::F16(values) => number::write_f32(values.value(row).to_f32(), into),
            Values::F32(values) => number::write_f32(values.value(row), into),
            Values::F64(values) => number::write_f64(values.value(row), into),
            Values::Decimal(values, scale) => {
                number::write_decimal(values.value(row), *scale, into);
            }
            Values::BigDecimal(values, scale) => {
                number::write_big_decimal(values.value(row), *scale, into);
            }
            Values::Time(values, clock) => time::write(values.value(row), *clock, into),
            Values::Interval(values) => time::write_interval(values[row], into),
            Values::Json(text) => write_json_text(text.text(row).unwrap_or_default(), into),
            Values::List(elements, ranges) => {
                let (start, end) = ranges[row];
                into.push(b'[');
                for at in start..end {
                    if at > start {
                        into.push(b',');
                    }
                    elements.json(at, into);
                }
                into.push(b']');
            }
            Values::Struct(columns) => {
                into.push(b'{');
                for (at, (name, column)) in columns.iter().enumerate() {
                    if at > 0 {
                        into.push(b',');
                    }
                    into.extend_from_slice(name);
                    column.json(row, into);
                }
                into.push(b'}');
            }
            Values::Map(columns, ranges) => {
                let (keys, values) = &**columns;
                let (start, end) = ranges[row];
                into.push(b'{');
                for at in start..end {
                    if at > start {
                        into.push(b',');
                    }
                    keys.key(at, into);
                    into.push(b':');
                    values.json(at, into);
                }
                into.push(b'}');
            }
            Values::Indirect(column, at) => column.json(at[row], into),
            Values::Union(..) => {
                if let Some((child, at)) = self.child(row) {
                    child.json(at, into);
                }
            }
            _ => {
                let bytes = self.bytes(row).unwrap_or_default();
                write_base64(bytes, into);
            }
        }
    }

    /// A name of an object: any value that is not a text is written as one.
    fn key(&self, row: usize, into: &mut Vec<u8>) {
        let start = into.len();
        self.json(row, into);
        if into.get(start) != Some(&b'"') {
            let value = into.split_off(start);
            write_string(&value, into);
        }
    }

    /// Whether JSON has nothing to say of the value but `null`.
    pub(in crate::warehouse) fn is_absent(&self, row: usize) -> bool {
        self.is_null(row)
            || match &self.values {
                Values::F16(values) => !values.value(row).is_finite(),
                Values::F32(values) => !values.value(row).is_finite(),
                Values::F64(values) => !values.value(row).is_finite(),
                _ => false,
            }
    }
}

fn write_base64(bytes: &[u8], into: &mut Vec<u8>) {
    into.push(b'"');
    let start = into.len();
    into.resize(start + bytes.len().div_ceil(3) * 4, b'=');
    // The room is what the encoding takes, so that it can't fail.
    let written = STANDARD.encode_slice(bytes, &mut into[start..]).unwrap_or(0);
    into.truncate(start + written);
    into.push(b'"');
}
