//! Control lines: pure.
//!
//! | line | says |
//! | --- | --- |
//! | `#events` | events follow |
//! | `#events to=3,7` | events follow, for these destinations only |
//! | `#deletions to=3,7` | deletions follow, for these destinations |
//! | `#judge` | what follows is judged, and neither stored nor counted; so are lines before any section |
//! | `#progress {...}` | how far the sync is |
//! | `#rejections-taken N` | the first N rejections that were told are kept elsewhere now |
//! | `#end {...}` | the sync has ended, and how |

use std::sync::Arc;

use serde_json::Value;

use crate::ingest::frame::Section;
use crate::log::StableId;

/// Longest control line.
pub const CONTROL_BYTES_MAX: usize = 64 * 1024;

/// Destinations that a section can name.
pub const TO_MAX: usize = 4096;

/// What a control line says.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Control {
    Section(Section),
    Progress(Value),
    RejectionsTaken(u64),
    End(Value),
}

/// A control line that says nothing; the sentence is for people.
pub(super) type Wrong = &'static str;

/// Reads a control line, without its line end.
pub(super) fn read(line: &[u8]) -> Result<Control, Wrong> {
    let line = std::str::from_utf8(line).map_err(|_| "a control line is not UTF-8")?;
    let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
    match (word, rest) {
        ("#events", "") => Ok(Control::Section(Section::Events { to: None })),
        ("#events", to) => Ok(Control::Section(Section::Events { to: Some(destinations(to)?) })),
        ("#deletions", to) => Ok(Control::Section(Section::Deletions { to: destinations(to)? })),
        ("#judge", "") => Ok(Control::Section(Section::Rehearsal)),
        ("#progress", counts) => object(counts).map(Control::Progress),
        ("#end", result) => object(result).map(Control::End),
        ("#rejections-taken", count) => count
            .parse()
            .map(Control::RejectionsTaken)
            .map_err(|_| "#rejections-taken needs a number"),
        _ => Err("an unknown control line"),
    }
}

fn object(text: &str) -> Result<Value, Wrong> {
    let value: Option<Value> = serde_json::from_str(text).ok();
    value.filter(Value::is_object).ok_or("a control line needs a JSON object")
}

/// `to=3,7`: ascending and each once afterwards. Nobody is not everybody, so an empty list is wrong.
fn destinations(text: &str) -> Result<Arc<[StableId]>, Wrong> {
    const WRONG: Wrong = "a section needs destinations as to=3,7";
    let list = text.strip_prefix("to=").ok_or(WRONG)?;
    if list.split(',').count() > TO_MAX {
        return Err("a section names too many destinations");
    }
    let ids: Result<Vec<u32>, _> = list.split(',').map(str::parse).collect();
    let mut ids: Vec<StableId> = ids.map_err(|_| WRONG)?.into_iter().map(StableId).collect();
    ids.sort_unstable();
    ids.dedup();
    Ok(ids.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ids(ids: &[u32]) -> Arc<[StableId]> {
        ids.iter().map(|id| StableId(*id)).collect()
    }

    #[test]
    fn what_control_lines_say() {
        for (line, says) in [
            ("#events", Control::Section(Section::Events { to: None })),
            ("#events to=7,3,7", Control::Section(Section::Events { to: Some(ids(&[3, 7])) })),
            ("#deletions to=3", Control::Section(Section::Deletions { to: ids(&[3]) })),
            ("#judge", Control::Section(Section::Rehearsal)),
            ("#progress {\"rows\":1}", Control::Progress(json!({"rows": 1}))),
            ("#end {}", Control::End(json!({}))),
            ("#rejections-taken 12", Control::RejectionsTaken(12)),
        ] {
            assert_eq!(read(line.as_bytes()), Ok(says), "{line}");
        }
    }

    #[test]
    fn what_is_half_said_is_wrong() {
        for line in [
            "#",
            "#events to=",
            "#events 3",
            "#events to=3,",
            "#events to=-1",
            "#events  to=3",
            "#events to=3 ",
            "#deletions",
            "#deletions to=",
            "#deletions to=x",
            "#judge to=3",
            "#Events",
            "#progress",
            "#progress 3",
            "#end",
            "#end [1]",
            "#rejections-taken",
            "#rejections-taken -1",
            "#eventsto=3",
            "#events\tto=3",
        ] {
            assert!(read(line.as_bytes()).is_err(), "{line}");
        }
        assert!(read(b"#events to=\xFF").is_err());
        let to = |count: usize| vec!["1"; count].join(",");
        assert!(read(format!("#events to={}", to(TO_MAX)).as_bytes()).is_ok());
        assert!(read(format!("#events to={}", to(TO_MAX + 1)).as_bytes()).is_err());
    }
}
