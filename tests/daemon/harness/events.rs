//! Events that can be told apart when they arrive.

/// A track event named `id` with these preferences.
pub(crate) fn event(id: &str, preferences: &[(&str, bool)]) -> String {
    marked(id, preferences, "")
}

/// As [`event`], with more members (`,"a":1`).
pub(crate) fn marked(id: &str, preferences: &[(&str, bool)], more: &str) -> String {
    let preferences: Vec<String> =
        preferences.iter().map(|(category, granted)| format!("\"{category}\":{granted}")).collect();
    let preferences = preferences.join(",");
    format!(
        "{{\"type\":\"track\",\"event\":\"Bought\",\"messageId\":\"{id}\",\"context\":\
         {{\"consent\":{{\"categoryPreferences\":{{{preferences}}}}}}}{more}}}"
    )
}

/// Lines of `count` events named `prefix-0`, `prefix-1` and so on, each padded by so many bytes.
pub(crate) fn events(
    prefix: &str,
    count: usize,
    padding: usize,
    preferences: &[(&str, bool)],
) -> String {
    let more = format!(",\"padding\":\"{}\"", "x".repeat(padding));
    (0..count).map(|n| marked(&format!("{prefix}-{n}"), preferences, &more) + "\n").collect()
}

/// The names of these events.
pub(crate) fn ids(lines: &[String]) -> Vec<String> {
    let id = |line: &String| {
        let (_, rest) = line.split_once("\"messageId\":\"").expect("an event of a test");
        rest.split_once('"').unwrap().0.to_owned()
    };
    lines.iter().map(id).collect()
}
