//! From an Arrow array to a [`Column`].

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, DurationMicrosecondType,
    DurationMillisecondType, DurationNanosecondType, DurationSecondType, Int8Type, Int16Type,
    Int32Type, Int64Type, IntervalDayTimeType, IntervalMonthDayNanoType, IntervalYearMonthType,
    RunEndIndexType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{
    Array, ArrayRef, ArrowPrimitiveType, Decimal128Array, Int64Array, PrimitiveArray, RunArray,
    StringArray, UnionArray,
};
use arrow_buffer::IntervalMonthDayNano;
use arrow_schema::extension::{EXTENSION_TYPE_METADATA_KEY, EXTENSION_TYPE_NAME_KEY};
use arrow_schema::{DataType, Field, IntervalUnit, TimeUnit};

use super::time::Clock;
use super::{Column, Values, keys, write_string};

/// Why values of this type can't be read; `None` where they can.
pub(in crate::warehouse) fn unsupported(kind: &DataType) -> Option<String> {
    match kind {
        DataType::ListView(_) | DataType::LargeListView(_) => Some(kind.to_string()),
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _)
        | DataType::RunEndEncoded(_, field) => unsupported(field.data_type()),
        DataType::Struct(fields) => fields.iter().find_map(|field| unsupported(field.data_type())),
        DataType::Union(fields, _) => {
            fields.iter().find_map(|(_, field)| unsupported(field.data_type()))
        }
        DataType::Dictionary(_, values) => unsupported(values),
        _ => None,
    }
}

/// What is to be done about a column whose values a driver gives in a form that is the database's own:
/// they can be told apart, but an event would hold something else than the database does.
pub(in crate::warehouse) fn foreign(field: &Field) -> Option<String> {
    let kind = postgres_type(field);
    let cast = match (field.data_type(), kind) {
        (DataType::List(elements), _) => return foreign(elements),
        (DataType::Binary, Some(kind)) if kind != "bytea" && !is_text_inside(kind) => "text",
        // In hundredths or thousandths, by a setting of the database.
        (DataType::Int64, Some("money")) => "numeric",
        // Without a sign in the database, with one here.
        (DataType::Int32, Some("oid")) => "bigint",
        // After a NULL, the driver gives every value of the column as NULL.
        (DataType::Struct(_), Some(_)) => "jsonb",
        _ => return None,
    };
    let (name, kind) = (field.name(), kind.unwrap_or_default());
    Some(match cast {
        "jsonb" => format!(
            "has PostgreSQL's composite type {kind}, of which the driver loses values; write \
             to_jsonb({name}) as {name} in the query"
        ),
        cast => format!(
            "has PostgreSQL's type {kind}, of which the driver gives the inner form; cast it in the \
             query: {name}::{cast}"
        ),
    })
}

/// The type in PostgreSQL, where the driver says it.
fn postgres_type(field: &Field) -> Option<&str> {
    let metadata = field.metadata();
    let kind = metadata.get("POSTGRESQL:type").or_else(|| metadata.get("ADBC:postgresql:typname"));
    kind.map(String::as_str)
}

/// Types whose inner form is the text itself.
fn is_text_inside(kind: &str) -> bool {
    matches!(kind, "citext" | "xml")
}

/// Reads an array as a column; `None` where [`unsupported`] says why.
pub(in crate::warehouse) fn bind(array: &ArrayRef, field: &Field) -> Option<Column> {
    let values = values(array, field)?;
    let nulls = match values {
        // Unions and runs have no NULLs of their own.
        Values::Union(..) => None,
        _ => array.logical_nulls().filter(|nulls| nulls.null_count() > 0),
    };
    let column = Column { nulls, values };
    if is_json(field) && is_text(array.data_type()) {
        return Some(Column { nulls: None, values: Values::Json(Box::new(column)) });
    }
    Some(column)
}

fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => is_text(values),
        DataType::Union(..) => true,
        _ => false,
    }
}

/// Whether a driver says that the text of a column is JSON.
pub(in crate::warehouse) fn is_json(field: &Field) -> bool {
    let metadata = field.metadata();
    let says = |key: &str| metadata.get(key).map(|value| value.to_ascii_lowercase());
    let json = |kind: &str| matches!(kind, "json" | "jsonb");
    match says(EXTENSION_TYPE_NAME_KEY).as_deref() {
        Some("arrow.json") => return true,
        Some("arrow.opaque") => {
            let opaque = metadata.get(EXTENSION_TYPE_METADATA_KEY);
            let opaque: Option<serde_json::Value> =
                opaque.and_then(|text| serde_json::from_str(text).ok());
            return opaque.is_some_and(|it| it["type_name"].as_str().is_some_and(json));
        }
        _ => {}
    }
    says("ADBC:postgresql:typname").as_deref().is_some_and(json)
        || says("Type").as_deref() == Some("json")
        || says("logicalType").is_some_and(|it| matches!(&*it, "variant" | "object" | "array"))
}

fn values(array: &ArrayRef, field: &Field) -> Option<Values> {
    Some(match array.data_type() {
        DataType::Null => Values::Null,
        DataType::Boolean => Values::Boolean(array.as_boolean().clone()),
        DataType::Int8 => Values::I8(array.as_primitive().clone()),
        DataType::Int16 => Values::I16(array.as_primitive().clone()),
        DataType::Int32 => Values::I32(array.as_primitive().clone()),
        DataType::Int64 => Values::I64(array.as_primitive().clone()),
        DataType::UInt8 => Values::U8(array.as_primitive().clone()),
        DataType::UInt16 => Values::U16(array.as_primitive().clone()),
        DataType::UInt32 => Values::U32(array.as_primitive().clone()),
        DataType::UInt64 => Values::U64(array.as_primitive().clone()),
        DataType::Float16 => Values::F16(array.as_primitive().clone()),
        DataType::Float32 => Values::F32(array.as_primitive().clone()),
        DataType::Float64 => Values::F64(array.as_primitive().clone()),
        DataType::Decimal32(_, scale) => {
            Values::Decimal(wide(array.as_primitive::<Decimal32Type>(), i128::from), *scale)
        }
        DataType::Decimal64(_, scale) => {
            Values::Decimal(wide(array.as_primitive::<Decimal64Type>(), i128::from), *scale)
        }
        DataType::Decimal128(_, scale) => Values::Decimal(array.as_primitive().clone(), *scale),
        DataType::Decimal256(_, scale) => Values::BigDecimal(array.as_primitive().clone(), *scale),
        DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(..)
        | DataType::Duration(_) => {
            let (units, clock) = units(array)?;
            Values::Time(units, clock)
        }
        DataType::Interval(unit) => Values::Interval(intervals(array, *unit)),
        DataType::Utf8 => Values::Text(array.as_string().clone()),
        DataType::LargeUtf8 => Values::LargeText(array.as_string().clone()),
        DataType::Utf8View => Values::TextView(array.as_string_view().clone()),
        DataType::Binary if postgres_type(field).is_some_and(is_text_inside) => {
            Values::Text(StringArray::try_from_binary(array.as_binary::<i32>().clone()).ok()?)
        }
        DataType::Binary => Values::Binary(array.as_binary().clone()),
        DataType::LargeBinary => Values::LargeBinary(array.as_binary().clone()),
        DataType::BinaryView => Values::BinaryView(array.as_binary_view().clone()),
        DataType::FixedSizeBinary(16) if is_uuid(field) => Values::Text(uuids(array)),
        DataType::FixedSizeBinary(_) => Values::FixedBinary(array.as_fixed_size_binary().clone()),
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => list(array)?,
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(array.as_struct().columns());
            let columns = columns.map(|(field, column)| {
                let mut name = Vec::new();
                write_string(field.name().as_bytes(), &mut name);
                name.push(b':');
                Some((name, bind(column, field)?))
            });
            Values::Struct(columns.collect::<Option<_>>()?)
        }
        DataType::Map(entries, _) => {
            let map = array.as_map();
            let DataType::Struct(fields) = entries.data_type() else { return None };
            let [key, value] = &fields[..] else { return None };
            let columns = (bind(map.keys(), key)?, bind(map.values(), value)?);
            Values::Map(Box::new(columns), ranges(map.value_offsets()))
        }
        DataType::Dictionary(key, _) => dictionary(array, key, field)?,
        DataType::RunEndEncoded(ends, _) => match ends.data_type() {
            DataType::Int16 => runs::<Int16Type>(array)?,
            DataType::Int32 => runs::<Int32Type>(array)?,
            DataType::Int64 => runs::<Int64Type>(array)?,
            _ => return None,
        },
        DataType::Union(fields, _) => {
            let union = array.as_any().downcast_ref::<UnionArray>()?;
            let mut children: Vec<Option<Column>> = Vec::new();
            for (id, child) in fields.iter() {
                let at = usize::try_from(id).ok()?;
                if children.len() <= at {
                    children.resize_with(at + 1, || None);
                }
                children[at] = Some(bind(union.child(id), child)?);
            }
            Values::Union(union.clone(), children)
        }
        DataType::ListView(_) | DataType::LargeListView(_) => return None,
    })
}

/// Whether a driver says that 16 bytes are a UUID.
pub(in crate::warehouse) fn is_uuid(field: &Field) -> bool {
    field.metadata().get(EXTENSION_TYPE_NAME_KEY).is_some_and(|name| name == "arrow.uuid")
}

/// As people write them.
fn uuids(array: &ArrayRef) -> StringArray {
    let mut texts = StringBuilder::with_capacity(array.len(), array.len() * 36);
    for uuid in array.as_fixed_size_binary() {
        texts.append_option(uuid.map(uuid_text).as_ref().map(|text| String::from_utf8_lossy(text)));
    }
    texts.finish()
}

fn uuid_text(uuid: &[u8]) -> [u8; 36] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [b'-'; 36];
    // Groups of 8, 4, 4, 4 and 12 digits.
    let places = (0..8).chain(9..13).chain(14..18).chain(19..23).chain(24..36);
    let digits = uuid.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (place, digit) in places.zip(digits) {
        text[place] = DIGITS[usize::from(digit)];
    }
    text
}

fn wide<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    widen: impl Fn(T::Native) -> i128,
) -> Decimal128Array {
    array.unary(widen)
}

/// What a type of time counts, in 64 bits.
fn units(array: &ArrayRef) -> Option<(Int64Array, Clock)> {
    macro_rules! count {
        ($kind:ty) => {
            array.as_primitive::<$kind>().unary::<_, Int64Type>(i64::from)
        };
    }
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    Some(match array.data_type() {
        DataType::Date32 => (count!(Date32Type), Clock::Day),
        DataType::Date64 => (count!(Date64Type), Clock::DayInMillis),
        DataType::Time32(Second) => (count!(Time32SecondType), Clock::TimeOfDay(Second)),
        DataType::Time32(_) => (count!(Time32MillisecondType), Clock::TimeOfDay(Millisecond)),
        DataType::Time64(Microsecond) => {
            (count!(Time64MicrosecondType), Clock::TimeOfDay(Microsecond))
        }
        DataType::Time64(_) => (count!(Time64NanosecondType), Clock::TimeOfDay(Nanosecond)),
        DataType::Timestamp(Second, _) => (count!(TimestampSecondType), Clock::Instant(Second)),
        DataType::Timestamp(Millisecond, _) => {
            (count!(TimestampMillisecondType), Clock::Instant(Millisecond))
        }
        DataType::Timestamp(Microsecond, _) => {
            (count!(TimestampMicrosecondType), Clock::Instant(Microsecond))
        }
        DataType::Timestamp(Nanosecond, _) => {
            (count!(TimestampNanosecondType), Clock::Instant(Nanosecond))
        }
        DataType::Duration(Second) => (count!(DurationSecondType), Clock::Duration(Second)),
        DataType::Duration(Millisecond) => {
            (count!(DurationMillisecondType), Clock::Duration(Millisecond))
        }
        DataType::Duration(Microsecond) => {
            (count!(DurationMicrosecondType), Clock::Duration(Microsecond))
        }
        DataType::Duration(Nanosecond) => {
            (count!(DurationNanosecondType), Clock::Duration(Nanosecond))
        }
        _ => return None,
    })
}

fn intervals(array: &ArrayRef, unit: IntervalUnit) -> Vec<IntervalMonthDayNano> {
    match unit {
        IntervalUnit::YearMonth => {
            let months = array.as_primitive::<IntervalYearMonthType>().values();
            months.iter().map(|&months| IntervalMonthDayNano::new(months, 0, 0)).collect()
        }
        IntervalUnit::DayTime => {
            let times = array.as_primitive::<IntervalDayTimeType>().values();
            let nanos = |millis: i32| i64::from(millis) * 1_000_000;
            let each = |time: &arrow_buffer::IntervalDayTime| {
                IntervalMonthDayNano::new(0, time.days, nanos(time.milliseconds))
            };
            times.iter().map(each).collect()
        }
        IntervalUnit::MonthDayNano => {
            array.as_primitive::<IntervalMonthDayNanoType>().values().to_vec()
        }
    }
}

fn list(array: &ArrayRef) -> Option<Values> {
    let (elements, field, ranges) = match array.data_type() {
        DataType::List(field) => {
            let list = array.as_list::<i32>();
            (list.values(), field, ranges(list.value_offsets()))
        }
        DataType::LargeList(field) => {
            let list = array.as_list::<i64>();
            (list.values(), field, ranges(list.value_offsets()))
        }
        DataType::FixedSizeList(field, length) => {
            let list = array.as_fixed_size_list();
            let length = usize::try_from(*length).ok()?;
            let ranges = (0..list.len()).map(|row| (row * length, (row + 1) * length));
            (list.values(), field, ranges.collect())
        }
        _ => return None,
    };
    Some(Values::List(Box::new(bind(elements, field)?), ranges))
}

/// Starts and ends; offsets are never negative in a valid array.
fn ranges<O: Copy + TryInto<usize>>(offsets: &[O]) -> Vec<(usize, usize)> {
    let at = |offset: O| offset.try_into().unwrap_or(0);
    offsets.windows(2).map(|pair| (at(pair[0]), at(pair[1]))).collect()
}

fn dictionary(array: &ArrayRef, key: &DataType, field: &Field) -> Option<Values> {
    macro_rules! positions {
        ($kind:ty) => {{
            let dictionary = array.as_dictionary::<$kind>();
            (keys(dictionary.keys()), dictionary.values())
        }};
    }
    let (at, values) = match key {
        DataType::Int8 => positions!(Int8Type),
        DataType::Int16 => positions!(Int16Type),
        DataType::Int32 => positions!(Int32Type),
        DataType::Int64 => positions!(Int64Type),
        DataType::UInt8 => positions!(UInt8Type),
        DataType::UInt16 => positions!(UInt16Type),
        DataType::UInt32 => positions!(UInt32Type),
        DataType::UInt64 => positions!(UInt64Type),
        _ => return None,
    };
    let plain = Field::new(field.name(), values.data_type().clone(), true);
    Some(Values::Indirect(Box::new(bind(values, &plain)?), at))
}

fn runs<R: RunEndIndexType>(array: &ArrayRef) -> Option<Values> {
    let runs = array.as_any().downcast_ref::<RunArray<R>>()?;
    let at = (0..runs.len()).map(|row| runs.get_physical_index(row)).collect();
    let values = runs.values();
    let plain = Field::new("values", values.data_type().clone(), true);
    Some(Values::Indirect(Box::new(bind(values, &plain)?), at))
}
