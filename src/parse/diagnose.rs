//! The slow strict validator (RFC 8259): says why a line that the walk refused is not an event.
//!
//! It reads byte by byte and stops at the first error, so the reason of a line that is wrong in
//! several ways is the first in the order of its bytes; only invalid UTF-8 anywhere comes before.

use super::{MAX_DEPTH, RejectReason, Rejection, escape};

/// Why `line` is refused.
#[cold]
pub(crate) fn diagnose(line: &[u8]) -> Rejection {
    if let Err(error) = std::str::from_utf8(line) {
        return invalid("not valid UTF-8", error.valid_up_to());
    }
    let mut check = Check { line, at: 0 };
    match check.event() {
        Err(rejection) => rejection,
        // Only if the walk were stricter than this validator. Refusing is the safe side.
        Ok(()) => invalid("not accepted by the parser", 0),
    }
}

fn invalid(detail: &'static str, at: usize) -> Rejection {
    Rejection { reason: RejectReason::InvalidJson, detail, at: u32::try_from(at).ok() }
}

struct Check<'a> {
    line: &'a [u8],
    at: usize,
}

/// The brackets that are open. There is room for as many as an event may have.
struct Open {
    brackets: [u8; MAX_DEPTH as usize],
    depth: usize,
}

impl Open {
    fn push(&mut self, bracket: u8) {
        self.brackets[self.depth] = bracket;
        self.depth += 1;
    }

    fn innermost(&self) -> Option<u8> {
        self.brackets[..self.depth].last().copied()
    }
}

impl Check<'_> {
    fn event(&mut self) -> Result<(), Rejection> {
        self.white_space();
        if self.byte() != Some(b'{') {
            return self.fail("expected one JSON object");
        }
        self.value()?;
        self.white_space();
        if self.at < self.line.len() { self.fail("more than one JSON object") } else { Ok(()) }
    }

    /// One value and all that is in it, without recursion: the depth is the attacker's choice.
    fn value(&mut self) -> Result<(), Rejection> {
        let mut open = Open { brackets: [0; MAX_DEPTH as usize], depth: 0 };
        loop {
            self.white_space();
            let Some(byte) = self.byte() else {
                return self.fail("expected a value");
            };
            match byte {
                b'{' | b'[' => {
                    if open.depth == open.brackets.len() {
                        let detail = "nested too deep";
                        let at = u32::try_from(self.at).ok();
                        return Err(Rejection { reason: RejectReason::TooDeep, detail, at });
                    }
                    self.at += 1;
                    self.white_space();
                    if self.byte() == Some(byte + 2) {
                        self.at += 1;
                    } else {
                        open.push(byte);
                        if byte == b'{' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                b'"' => self.string()?,
                b't' => self.literal(b"true")?,
                b'f' => self.literal(b"false")?,
                b'n' => self.literal(b"null")?,
                b'-' | b'0'..=b'9' => self.number()?,
                _ => return self.fail("expected a value"),
            }
            if self.close(&mut open)? {
                return Ok(());
            }
        }
    }

    /// After a value: takes closing brackets and at most one comma; whether everything is closed.
    fn close(&mut self, open: &mut Open) -> Result<bool, Rejection> {
        while let Some(innermost) = open.innermost() {
            self.white_space();
            match self.byte() {
                Some(b',') => {
                    self.at += 1;
                    if innermost == b'{' {
                        self.key()?;
                    }
                    return Ok(false);
                }
                Some(byte) if byte == innermost + 2 => {
                    self.at += 1;
                    open.depth -= 1;
                }
                Some(_) => return self.fail("expected a comma or the end of the object or array"),
                None => return self.fail("the text ends inside an object or array"),
            }
        }
        Ok(true)
    }

    fn key(&mut self) -> Result<(), Rejection> {
        self.white_space();
        if self.byte() != Some(b'"') {
            return self.fail("expected a key");
        }
        self.string()?;
        self.white_space();
        if self.byte() != Some(b':') {
            return self.fail("expected a colon");
        }
        self.at += 1;
        Ok(())
    }

    fn string(&mut self) -> Result<(), Rejection> {
        self.at += 1;
        loop {
            match self.byte() {
                None => return self.fail("the text ends inside a string"),
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => match escape::decode(self.line, self.at) {
                    Some((length, _)) => self.at += length,
                    None => return self.fail("invalid escape sequence or lone surrogate"),
                },
                Some(0..=0x1f) => return self.fail("control character in a string"),
                Some(_) => self.at += 1,
            }
        }
    }

    fn literal(&mut self, literal: &[u8]) -> Result<(), Rejection> {
        if !self.line[self.at..].starts_with(literal) {
            return self.fail("expected a value");
        }
        self.at += literal.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), Rejection> {
        self.at += usize::from(self.byte() == Some(b'-'));
        match self.byte() {
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.digits()?,
            _ => return self.fail("invalid number"),
        }
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Rejection> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start { self.fail("invalid number") } else { Ok(()) }
    }

    fn white_space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn byte(&self) -> Option<u8> {
        self.line.get(self.at).copied()
    }

    fn fail<T>(&self, detail: &'static str) -> Result<T, Rejection> {
        Err(invalid(detail, self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        let check = |line: &[u8], expected: &str| {
            let found = diagnose(line);
            assert_eq!(format!("{}: {found}", found.reason.label()), expected);
        };
        check(b"", "invalid_json: expected one JSON object at byte 0");
        check(b"\xef\xbb\xbf{}", "invalid_json: expected one JSON object at byte 0");
        check(b"[]", "invalid_json: expected one JSON object at byte 0");
        check(b"{}{}", "invalid_json: more than one JSON object at byte 2");
        check(
            b"{\"a\":01}",
            "invalid_json: expected a comma or the end of the object or array at byte 6",
        );
        check(b"{\"a\":1.}", "invalid_json: invalid number at byte 7");
        check(
            b"{\"a\":\"\\ud800\"}",
            "invalid_json: invalid escape sequence or lone surrogate at byte 6",
        );
        check(b"{\"a\":\"\xff\"}", "invalid_json: not valid UTF-8 at byte 6");
        check(b"{\"a\":\"\0\"}", "invalid_json: control character in a string at byte 6");
        check(b"{\"a\":nul}", "invalid_json: expected a value at byte 5");
        let deep = [b"{\"a\":".repeat(64), b"{}".to_vec(), b"}".repeat(64)].concat();
        check(&deep, "too_deep: nested too deep at byte 320");
    }
}
