//! A generated event as a tree, and the many ways in which the same tree can be written down:
//! whitespace wherever the grammar has room for it, and escapes for characters that need none.

use fastrand::Rng;

#[derive(Debug, Clone)]
pub(crate) enum Node {
    /// Written as it stands: numbers, literals, and whatever is not JSON at all.
    Raw(String),
    Text(String),
    Object(Vec<(String, Node)>),
    Array(Vec<Node>),
}

impl Node {
    pub(crate) fn raw(text: &str) -> Self {
        Self::Raw(text.to_owned())
    }

    pub(crate) fn text(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// No LF: framing ends a line there, so no line that is judged holds one.
const WHITESPACE: [char; 3] = [' ', '\t', '\r'];

pub(crate) struct Writer<'a> {
    rng: &'a mut Rng,
    /// One in so many places gets whitespace; 0 is never.
    space_every: usize,
    /// One in so many characters is escaped without need; 0 is never.
    escape_every: usize,
    out: String,
}

/// Writes `tree` in a style chosen at random, most often without whitespace and needless escapes.
pub(crate) fn write(tree: &Node, rng: &mut Rng) -> Vec<u8> {
    let space_every = [0, 0, 0, 12, 3, 1][rng.usize(..6)];
    let escape_every = [0, 0, 0, 40, 6, 1][rng.usize(..6)];
    let mut writer = Writer { rng, space_every, escape_every, out: String::new() };
    writer.space();
    writer.node(tree);
    writer.space();
    writer.out.into_bytes()
}

impl Writer<'_> {
    fn one_in(&mut self, every: usize) -> bool {
        every > 0 && self.rng.usize(..every) == 0
    }

    fn space(&mut self) {
        if self.one_in(self.space_every) {
            for _ in 0..self.rng.usize(1..4) {
                let c = WHITESPACE[self.rng.usize(..WHITESPACE.len())];
                self.out.push(c);
            }
        }
    }

    fn punctuation(&mut self, c: char) {
        self.space();
        self.out.push(c);
        self.space();
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::Raw(text) => self.out.push_str(text),
            Node::Text(text) => self.string(text),
            Node::Object(members) => {
                self.punctuation('{');
                for (i, (key, value)) in members.iter().enumerate() {
                    if i > 0 {
                        self.punctuation(',');
                    }
                    self.string(key);
                    self.punctuation(':');
                    self.node(value);
                }
                self.punctuation('}');
            }
            Node::Array(elements) => {
                self.punctuation('[');
                for (i, element) in elements.iter().enumerate() {
                    if i > 0 {
                        self.punctuation(',');
                    }
                    self.node(element);
                }
                self.punctuation(']');
            }
        }
    }

    fn string(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            if matches!(c, '"' | '\\' | '\0'..='\x1f') || self.one_in(self.escape_every) {
                self.escaped(c);
            } else {
                self.out.push(c);
            }
        }
        self.out.push('"');
    }

    fn escaped(&mut self, c: char) {
        let short = match c {
            '"' => "\\\"",
            '\\' => "\\\\",
            '/' => "\\/",
            '\n' => "\\n",
            '\r' => "\\r",
            '\t' => "\\t",
            '\x08' => "\\b",
            '\x0c' => "\\f",
            _ => "",
        };
        if !short.is_empty() && self.rng.bool() {
            self.out.push_str(short);
            return;
        }
        let capitals = self.rng.bool();
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            let escape = if capitals { format!("\\u{unit:04X}") } else { format!("\\u{unit:04x}") };
            self.out.push_str(&escape);
        }
    }
}
