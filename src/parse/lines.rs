//! Lines of a run of bytes.

/// A line by its place in the run; its line end, LF or CRLF, is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Line {
    /// Offset of the first byte.
    pub start: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Line {
    /// Whether the line is empty or white space only; such a line is skipped and not counted.
    #[must_use]
    pub fn is_blank(&self, bytes: &[u8]) -> bool {
        let line = &bytes[self.start..self.start + self.len];
        line.iter().all(|byte| matches!(byte, b' ' | b'\t' | b'\r'))
    }
}

/// Walks over the lines of a run. It holds offsets only, so that the run may be lent mutably
/// between two steps.
#[derive(Clone, Copy, Debug)]
pub struct Lines {
    at: usize,
    end: usize,
}

impl Lines {
    /// The lines of `bytes[..end]`; the last one may lack its line end.
    #[must_use]
    pub fn new(end: usize) -> Self {
        Self { at: 0, end }
    }

    /// The next line of `bytes`, which must be the same run on every call.
    #[inline]
    pub fn next(&mut self, bytes: &[u8]) -> Option<Line> {
        if self.at >= self.end {
            return None;
        }
        let start = self.at;
        let stop = memchr::memchr(b'\n', &bytes[start..self.end]).map_or(self.end, |n| start + n);
        self.at = stop + 1;
        let len = stop - start;
        let crlf = len > 0 && bytes[stop - 1] == b'\r';
        Some(Line { start, len: len - usize::from(crlf) })
    }
}

/// Makes every CR of a run of lines that is not part of a line end harmless.
///
/// A CR may stand between the tokens of a valid event, and some readers take it for a line end: what
/// follows it would be a line that was not judged. See [`blank_line_breaks`].
pub fn blank_stray_returns(bytes: &mut [u8]) {
    let mut from = 0;
    while let Some(found) = memchr::memchr(b'\r', &bytes[from..]) {
        let at = from + found;
        if matches!(bytes.get(at + 1), Some(b'\n')) {
            from = at + 1;
            continue;
        }
        let start = memchr::memrchr(b'\n', &bytes[..at]).map_or(0, |n| n + 1);
        let mut stop = memchr::memchr(b'\n', &bytes[at..]).map_or(bytes.len(), |n| at + n);
        from = stop;
        if stop < bytes.len() && bytes[stop - 1] == b'\r' {
            stop -= 1;
        }
        blank_line_breaks(&mut bytes[start..stop]);
    }
}

/// Turns each raw LF and CR between the tokens of one JSON text into a space.
///
/// White space there has no meaning, so the event is the same. Inside a string a raw control
/// character is invalid, and must stay so: an LF becomes a NUL, because it would end the line.
pub fn blank_line_breaks(text: &mut [u8]) {
    let mut in_string = false;
    let mut escaped = false;
    for byte in text {
        match *byte {
            b'\n' if in_string => *byte = 0,
            b'\n' | b'\r' if !in_string => *byte = b' ',
            b'"' if !escaped => in_string = !in_string,
            _ => {}
        }
        escaped = in_string && !escaped && *byte == b'\\';
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: &str) -> Vec<&str> {
        let mut walk = Lines::new(bytes.len());
        let mut found = Vec::new();
        while let Some(line) = walk.next(bytes.as_bytes()) {
            found.push(&bytes[line.start..line.start + line.len]);
        }
        found
    }

    #[test]
    fn lf_crlf_and_a_last_line_without_an_end() {
        assert_eq!(lines("a\nb\r\n\nc"), ["a", "b", "", "c"]);
        assert_eq!(lines("a\n"), ["a"]);
        assert_eq!(lines(""), [""; 0]);
        assert_eq!(lines("\r\n\r"), ["", ""]);
    }

    #[test]
    fn stray_returns_become_spaces_between_tokens_only() {
        let check = |before: &str, after: &str| {
            let mut bytes = before.as_bytes().to_vec();
            blank_stray_returns(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), after, "{before:?}");
        };
        check("{\"a\":\r1}\r\n{}\r\n", "{\"a\": 1}\r\n{}\r\n");
        check("{}\n{\"a\":\r1}", "{}\n{\"a\": 1}");
        check("{\"a\":\"\r\"}\n", "{\"a\":\"\r\"}\n");
        check("{\"a\":\"\\\"\r\"\r}\r\r\n{\r}", "{\"a\":\"\\\"\r\" } \r\n{ }");
    }

    #[test]
    fn a_line_feed_in_a_string_stays_invalid() {
        let mut text = b"{\"a\\\\\":\n\"b\nc\"}".to_vec();
        blank_line_breaks(&mut text);
        assert_eq!(text, b"{\"a\\\\\": \"b\0c\"}");
    }
}
