//! How things are shown.

use serde_json::{Value, json};

use crate::log::Damage;

/// A time as people and programs read it.
pub(super) fn time(unix_ms: u64) -> String {
    let at = i64::try_from(unix_ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| format!("{unix_ms} ms since 1970"), |at| at.to_string())
}

pub(super) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).to_string()
}

/// Rows under headings, in columns; nothing if there are no rows.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(&mut headings.iter().copied());
    for row in rows {
        text += &line(&mut row.iter().map(String::as_str));
    }
    text
}

/// The event of a record: text, and a word if that is not exactly what is stored.
pub(super) fn add_line(object: &mut Value, line: &[u8]) {
    match std::str::from_utf8(line) {
        Ok(text) => object["event"] = json!(text),
        Err(_) => {
            object["event"] = json!(String::from_utf8_lossy(line));
            object["event_is_not_utf8"] = json!(true);
        }
    }
}

pub(super) fn damage(damage: &Damage) -> Value {
    json!({
        "stretches": damage.stretches,
        "bytes": damage.bytes,
        "events": damage.events,
        "stretches_with_an_unknown_number_of_events": damage.uncounted,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows =
            [vec!["a".to_owned(), "1".to_owned()], vec!["lönger".to_owned(), "22".to_owned()]];
        assert_eq!(table(&["name", "n"], &rows), "name    n\na       1\nlönger  22\n");
        assert_eq!(table(&["name"], &[]), "");
    }

    #[test]
    fn what_is_not_text_is_said_to_be_so() {
        let mut object = json!({});
        add_line(&mut object, b"{\"a\":\"\xFF\"}");
        assert_eq!(object, json!({"event": "{\"a\":\"\u{FFFD}\"}", "event_is_not_utf8": true}));
    }
}
