//! Numbers as JSON, without loss.

use arrow_buffer::i256;

/// The shortest text that reads back as the same number.
pub(super) fn write_f64(number: f64, into: &mut Vec<u8>) {
    // Writing to a vector does not fail; what is not finite becomes `null`.
    let _ = serde_json::to_writer(into, &number);
}

/// As [`write_f64`], for what has fewer digits.
pub(super) fn write_f32(number: f32, into: &mut Vec<u8>) {
    let _ = serde_json::to_writer(into, &number);
}

/// Every digit, the zeroes behind the point included.
pub(super) fn write_decimal(value: i128, scale: i8, into: &mut Vec<u8>) {
    if value < 0 {
        into.push(b'-');
    }
    let mut buffer = itoa::Buffer::new();
    place_point(buffer.format(value.unsigned_abs()), scale, into);
}

/// As [`write_decimal`], for up to 76 digits.
pub(super) fn write_big_decimal(value: i256, scale: i8, into: &mut Vec<u8>) {
    if let Some(value) = value.to_i128() {
        write_decimal(value, scale, into);
        return;
    }
    let text = value.to_string();
    let digits = text.strip_prefix('-');
    if digits.is_some() {
        into.push(b'-');
    }
    place_point(digits.unwrap_or(&text), scale, into);
}

fn place_point(digits: &str, scale: i8, into: &mut Vec<u8>) {
    let digits = digits.as_bytes();
    let places = usize::from(scale.unsigned_abs());
    if scale <= 0 {
        into.extend_from_slice(digits);
        if digits != b"0" {
            into.resize(into.len() + places, b'0');
        }
        return;
    }
    let whole = digits.len().saturating_sub(places);
    if whole == 0 {
        into.extend_from_slice(b"0.");
        into.resize(into.len() + places - digits.len(), b'0');
        into.extend_from_slice(digits);
    } else {
        into.extend_from_slice(&digits[..whole]);
        into.push(b'.');
        into.extend_from_slice(&digits[whole..]);
    }
}

pub(super) fn is_one(value: i128, scale: i8) -> bool {
    u32::try_from(scale).is_ok_and(|places| 10_i128.checked_pow(places) == Some(value))
}

pub(super) fn is_big_one(value: i256, scale: i8) -> bool {
    match value.to_i128() {
        Some(value) => is_one(value, scale),
        None => u32::try_from(scale)
            .is_ok_and(|places| i256::from_i128(10).checked_pow(places) == Some(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_every_digit() {
        let check = |value: i128, scale: i8, expected: &str| {
            let mut text = Vec::new();
            write_decimal(value, scale, &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
            let mut text = Vec::new();
            write_big_decimal(i256::from_i128(value), scale, &mut text);
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        };
        check(0, 0, "0");
        check(0, 2, "0.00");
        check(5, 2, "0.05");
        check(-5, 3, "-0.005");
        check(1234, 2, "12.34");
        check(-1230, 2, "-12.30");
        check(12, -3, "12000");
        check(0, -3, "0");
        check(i128::MIN, 0, "-170141183460469231731687303715884105728");
        let mut text = Vec::new();
        write_big_decimal(i256::MAX, 10, &mut text);
        let expected =
            "5789604461865809771178549250434395392663499233282028201972879200395.6564819967";
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    #[test]
    fn one_is_one_at_every_scale() {
        assert!(is_one(1, 0) && is_one(100, 2) && is_big_one(i256::from_i128(10), 1));
        assert!(!is_one(1, 2) && !is_one(10, 0) && !is_one(10, -1) && !is_one(101, 2));
    }
}
