//! One Rust file as the rules see it: code without comments, literals and tests, and the paths that
//! it names. A reader of tokens rather than a parser: enough for `use` lines and `crate::` paths.

/// A file under the root of the repository.
pub(crate) struct Source {
    /// Relative to the root, with forward slashes.
    pub(crate) path: String,
    pub(crate) text: String,
    /// As long as `text`, line for line, with spaces for comments, literals and tests.
    pub(crate) code: String,
    /// Lines of the file that are not tests.
    pub(crate) production_lines: usize,
}

/// A path that the code names, in a `use` or in passing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) line: usize,
    /// `crate::x::Y` and what resolves to it as `["crate", "x", "Y"]`, anything else as written.
    pub(crate) segments: Vec<String>,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let (code, test_lines) = without_tests(&without_comments_and_literals(text));
        let production_lines = text.lines().count().saturating_sub(test_lines);
        Self { path: path.to_owned(), text: text.to_owned(), code, production_lines }
    }

    /// The folder of the data path that the file belongs to: `parse` for `src/parse/json.rs`.
    /// `None` for `lib.rs`, `main.rs` and everything outside `src`.
    pub(crate) fn module(&self) -> Option<&str> {
        let (module, _) = self.path.strip_prefix("src/")?.split_once('/')?;
        Some(module)
    }

    /// Whether the whole file is tests, as declared by `#[cfg(test)] mod tests;`.
    pub(crate) fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    /// Every word of the code with its line and the character that follows it.
    pub(crate) fn words(&self) -> Vec<(usize, &str, char)> {
        let mut words = Vec::new();
        for (index, line) in self.code.lines().enumerate() {
            let mut rest = line;
            while let Some(start) = rest.find(is_word) {
                let tail = &rest[start..];
                let end = tail.find(|c| !is_word(c)).unwrap_or(tail.len());
                words.push((index + 1, &tail[..end], tail[end..].chars().next().unwrap_or(' ')));
                rest = &tail[end..];
            }
        }
        words
    }

    pub(crate) fn paths(&self) -> Vec<Named> {
        let tokens = tokens(&self.code);
        let mut paths = Vec::new();
        let mut at = 0;
        while at < tokens.len() {
            let is_use = tokens[at].1 == "use";
            let starts_path = tokens[at].1.starts_with(is_word)
                && tokens.get(at + 1).is_some_and(|next| next.1 == "::");
            if is_use || starts_path {
                at = tree(&tokens, at + usize::from(is_use), &[], &mut paths);
            } else {
                at += 1;
            }
        }
        for path in &mut paths {
            path.segments = self.resolved(std::mem::take(&mut path.segments));
        }
        paths
    }

    /// Turns `self::`, `super::` and, in `main.rs`, `consentd::` into `crate::`.
    fn resolved(&self, segments: Vec<String>) -> Vec<String> {
        let file = self.path.trim_start_matches("src/").trim_end_matches(".rs");
        let mut here: Vec<&str> = file.split('/').collect();
        here.retain(|part| !matches!(*part, "mod" | "lib" | "main"));
        let mut rest = segments.iter().map(String::as_str).peekable();
        match rest.peek() {
            Some(&"crate" | &"consentd") => {
                rest.next();
                here.clear();
            }
            Some(&"self" | &"super") => {
                while let Some(step) = rest.next_if(|step| matches!(*step, "self" | "super")) {
                    if step == "super" {
                        here.pop();
                    }
                }
            }
            _ => return segments,
        }
        std::iter::once("crate").chain(here).chain(rest).map(str::to_owned).collect()
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Words, `::` and single characters, with their lines.
fn tokens(code: &str) -> Vec<(usize, &str)> {
    let mut tokens = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let end = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push((index + 1, &rest[..end]));
            rest = rest[end..].trim_start();
        }
    }
    tokens
}

/// Reads one path or `use` tree that begins at `at`, adds what it names, returns where it ends.
fn tree(tokens: &[(usize, &str)], mut at: usize, prefix: &[String], out: &mut Vec<Named>) -> usize {
    let mut segments = prefix.to_vec();
    let line = tokens.get(at).map_or(0, |token| token.0);
    while let Some((_, token)) = tokens.get(at) {
        match *token {
            "::" => at += 1,
            "{" => return group(tokens, at + 1, &segments, out),
            word if word.starts_with(is_word) => {
                segments.push(word.to_owned());
                at += 1;
                if tokens.get(at).is_none_or(|next| next.1 != "::") {
                    break;
                }
            }
            _ => break,
        }
    }
    out.push(Named { line, segments });
    at.max(1)
}

/// The inside of `{a, b::c as d}`.
fn group(
    tokens: &[(usize, &str)],
    mut at: usize,
    prefix: &[String],
    out: &mut Vec<Named>,
) -> usize {
    while let Some((_, token)) = tokens.get(at) {
        match *token {
            "}" => return at + 1,
            "as" => at += 2,
            word if word.starts_with(is_word) || word == "{" => at = tree(tokens, at, prefix, out),
            "*" => {
                out.push(Named { line: tokens[at].0, segments: prefix.to_vec() });
                at += 1;
            }
            _ => at += 1,
        }
    }
    at
}

/// Spaces for comments, strings and characters; line breaks stay.
fn without_comments_and_literals(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let end = literal_end(&chars, at);
        if end == at {
            code.push(chars[at]);
            at += 1;
        }
        while at < end {
            code.push(if chars[at] == '\n' { '\n' } else { ' ' });
            at += 1;
        }
    }
    code
}

/// Where the comment or literal that begins at `at` ends; `at` if none begins there.
fn literal_end(chars: &[char], at: usize) -> usize {
    let next = |n: usize| chars.get(at + n).copied().unwrap_or('\n');
    let inside_word = at > 0 && is_word(chars[at - 1]);
    match chars[at] {
        '/' if next(1) == '/' => until(chars, at, |rest| rest[0] == '\n'),
        '/' if next(1) == '*' => until(chars, at + 2, |rest| rest.starts_with(&['*', '/'])) + 2,
        '"' => quoted_end(chars, at + 1, '"'),
        'r' if !inside_word || chars[at - 1] == 'b' => {
            let hashes = chars[at + 1..].iter().take_while(|c| **c == '#').count();
            if next(1 + hashes) != '"' {
                return at;
            }
            let mut close = vec!['"'];
            close.resize(1 + hashes, '#');
            until(chars, at + 2 + hashes, |rest| rest.starts_with(&close)) + close.len()
        }
        '\'' if next(1) == '\\' || next(2) == '\'' => quoted_end(chars, at + 1, '\''),
        _ => at,
    }
    .min(chars.len())
}

fn until(chars: &[char], from: usize, found: impl Fn(&[char]) -> bool) -> usize {
    (from..chars.len()).find(|at| found(&chars[*at..])).unwrap_or(chars.len())
}

fn quoted_end(chars: &[char], mut at: usize, quote: char) -> usize {
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Blanks every item under `#[cfg(test)]`; also returns how many lines those took.
fn without_tests(code: &str) -> (String, usize) {
    const MARK: &str = "#[cfg(test)]";
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    let mut lines = 0;
    while let Some(start) = rest.find(MARK) {
        let item = &rest[start..];
        let end = item_end(item);
        kept.push_str(&rest[..start]);
        kept.extend(item[..end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        lines += item[..end].lines().count();
        rest = &item[end..];
    }
    kept.push_str(rest);
    (kept, lines)
}

/// Behind the first `;`, or behind the brace that closes the first one.
fn item_end(item: &str) -> usize {
    let mut depth = 0_usize;
    for (at, c) in item.char_indices() {
        match c {
            ';' if depth == 0 => return at + 1,
            '{' => depth += 1,
            '}' if depth <= 1 => return at + 1,
            '}' => depth -= 1,
            _ => {}
        }
    }
    item.len()
}
