//! What a destination makes of the events that it gets: the rows that it holds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Rows by their id as JSON: the events, without their `messageId`.
pub(crate) type Rows = BTreeMap<String, Value>;

/// A destination.
#[derive(Default)]
pub(crate) struct Replica {
    rows: Rows,
    /// The line of each `messageId`.
    lines: BTreeMap<String, String>,
    /// The last message of each row.
    last: BTreeMap<String, Value>,
    /// All lines of a row.
    arrived: BTreeMap<String, Vec<String>>,
    /// Whether a line may come again, as after a crash.
    may_repeat: bool,
    /// Lines that came again.
    pub(crate) repeated: usize,
}

impl Replica {
    /// One where lines may come again, as after a crash.
    pub(crate) fn of_repeated_lines() -> Self {
        Self { may_repeat: true, ..Self::default() }
    }

    /// Takes what arrived, in its order.
    #[track_caller]
    pub(crate) fn take(&mut self, name: &str, lines: &[String]) {
        for line in lines {
            self.take_one(name, line);
        }
    }

    #[track_caller]
    fn take_one(&mut self, name: &str, line: &str) {
        let mut event: Value = serde_json::from_str(line).unwrap();
        let message = event.as_object_mut().unwrap().remove("messageId").unwrap();
        let message = message.as_str().unwrap().to_owned();
        let id = event["userId"].to_string();
        self.arrived.entry(id.clone()).or_default().push(line.to_owned());
        if let Some(known) = self.lines.insert(message.clone(), line.to_owned()) {
            assert!(self.may_repeat, "{name} got a messageId twice: {known} and {line}");
            assert_eq!(known, line, "{name}: one messageId, two events");
            self.repeated += 1;
            // Whoever sorts out repeated messages leaves it at the first.
            return;
        }
        let last = self.last.insert(id.clone(), event.clone());
        if self.may_repeat && event["type"] == "delete" && last.as_ref() == Some(&event) {
            // Between the two, it may have been sent something, for all that is known after a crash.
            self.repeated += 1;
            return;
        }
        assert_ne!(last.as_ref(), Some(&event), "{name} got the same twice under two messageIds");
        if event["type"] == "delete" {
            assert_eq!(
                event,
                json!({ "type": "delete", "userId": event["userId"] }),
                "{name}: only the id"
            );
            let held = self.rows.remove(&id);
            assert!(held.is_some(), "{name} is told of a row that it has not: {line}");
        } else {
            self.rows.insert(id, event);
        }
    }

    /// All that came of a row.
    pub(crate) fn arrived(&self, id: &str) -> &[String] {
        self.arrived.get(id).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn rows(&self) -> &Rows {
        &self.rows
    }
}
