//! "Did you mean": the known name that is closest to what was written.

/// The candidate that somebody who wrote `name` most likely meant.
pub(crate) fn closest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let plain = |name: &str| name.to_lowercase().replace('-', "_");
    let wanted = plain(name);
    // A third of the letters may differ: `Analytcs` is meant as `Analytics`, `crm` not as `ads`.
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&wanted, &plain(candidate)), candidate))
        .filter(|&(distance, _)| distance <= limit)
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// What to write instead of the unknown `name`: the closest candidate, or which there are.
pub(crate) fn help<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str> + Clone,
) -> String {
    if let Some(candidate) = closest(name, candidates.clone()) {
        return format!("did you mean `{candidate}`?");
    }
    match list(candidates) {
        Some(names) => format!("write one of {names}"),
        None => "there is none".to_owned(),
    }
}

/// Names in back quotes, at most sixteen of them.
pub(crate) fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut names = names.into_iter();
    let mut shown: Vec<String> = names.by_ref().take(16).map(|n| format!("`{n}`")).collect();
    match names.count() {
        0 => {}
        more => shown.push(format!("{more} more")),
    }
    (!shown.is_empty()).then(|| shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_if_it_is_close() {
        let names = ["max_bytes", "max_events", "max_wait", "Analytics"];
        assert_eq!(closest("max_byte", names), Some("max_bytes"));
        assert_eq!(closest("max-wait", names), Some("max_wait"));
        assert_eq!(closest("analytics", names), Some("Analytics"));
        assert_eq!(closest("Anlaytics", names), Some("Analytics"));
        assert_eq!(closest("crm", names), None);
        assert_eq!(closest("", names), None);
    }
}
