//! Whatever the pieces in which bytes arrive, the lines are those of a slow reading of the whole.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use consentd::ingest::framing::{BodyCutter, Cut, Cutter, RUNS_PER_CALL_MAX, StreamCutter};
use consentd::parse::{Lines, blank_line_breaks};
use proptest::collection::vec;
use proptest::prelude::*;

/// Longest line of the generated cases.
const MAX: usize = 16;

/// A line as the sender sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Line(String),
    Blank,
    /// Too long, whether it was kept or not.
    TooLong,
}

fn seen(line: &[u8], max: usize) -> Seen {
    // Left at the end only in a string that never ends, which is invalid with and without it.
    let returns = line.iter().rev().take_while(|byte| **byte == b'\r').count();
    let line = &line[..line.len() - returns];
    if line.iter().all(|byte| b" \t\r".contains(byte)) {
        return Seen::Blank;
    }
    if line.len() > max {
        return Seen::TooLong;
    }
    Seen::Line(String::from_utf8_lossy(line).into_owned())
}

/// Cuts `input` in pieces of these lengths, which repeat.
fn cut(mut cutter: impl Cutter, input: &[u8], lengths: &[usize], max: usize) -> Vec<Seen> {
    let mut all = Vec::new();
    let mut rest = input;
    let mut lengths = lengths.iter().cycle();
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(lengths.next().unwrap().min(&rest.len()).to_owned());
        let mut cuts = Vec::new();
        cutter.push(&mut piece.to_vec(), &mut cuts);
        let runs = cuts.iter().filter(|cut| matches!(cut, Cut::Lines(_)));
        assert!(runs.count() <= RUNS_PER_CALL_MAX);
        all.extend(cuts);
        rest = behind;
    }
    cutter.finish(&mut all);
    all.iter().flat_map(|cut| flatten(cut, max)).collect()
}

fn flatten(cut: &Cut, max: usize) -> Vec<Seen> {
    match cut {
        Cut::Oversized { .. } => vec![Seen::TooLong],
        Cut::Blank { lines } => vec![Seen::Blank; *lines as usize],
        Cut::Lines(run) => {
            let bytes = run.lines();
            let mut walk = Lines::new(bytes.len());
            let mut lines = Vec::new();
            while let Some(line) = walk.next(bytes) {
                lines.push(seen(&bytes[line.start..line.start + line.len], max));
            }
            lines
        }
    }
}

fn strip_line_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn without_breaks(line: &[u8]) -> Vec<u8> {
    let mut line = line.to_vec();
    blank_line_breaks(&mut line);
    line
}

fn slow_lines(input: &[u8]) -> Vec<Seen> {
    let lines = input.split_inclusive(|byte| *byte == b'\n');
    let see = |line: &[u8]| {
        let ended = line.ends_with(b"\n");
        let line = if ended { strip_line_end(line) } else { line };
        seen(&without_breaks(line), MAX)
    };
    lines.map(see).collect()
}

fn slow_counted(mut input: &[u8]) -> Vec<Seen> {
    let mut all = Vec::new();
    loop {
        while let [b' ' | b'\t' | b'\r' | b'\n', rest @ ..] = input {
            input = rest;
        }
        if input.is_empty() {
            return all;
        }
        let digits = input.iter().take_while(|b| b.is_ascii_digit()).count();
        let counted = input[0] != b'0' && (1..=10).contains(&digits);
        let (line, rest) = if counted && input.get(digits) == Some(&b' ') {
            let octets: usize = std::str::from_utf8(&input[..digits]).unwrap().parse().unwrap();
            input = &input[digits + 1..];
            let line = &input[..octets.min(input.len())];
            if octets > MAX + 2 {
                all.push(Seen::TooLong);
                input = &input[line.len()..];
                continue;
            }
            (line, &input[line.len()..])
        } else {
            let end = input.iter().position(|byte| *byte == b'\n');
            input.split_at(end.map_or(input.len(), |at| at + 1))
        };
        let line = without_breaks(strip_line_end(line));
        all.push(seen(&line, MAX));
        input = rest;
    }
}

/// `input` begins behind the opening bracket.
fn slow_array(input: &[u8]) -> Vec<Seen> {
    let mut elements = vec![Vec::new()];
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for (at, byte) in input.iter().enumerate() {
        if in_string {
            in_string = escaped || *byte != b'"';
            escaped = !escaped && *byte == b'\\';
        } else {
            match byte {
                b'"' => in_string = true,
                b'[' | b'{' => depth += 1,
                b']' | b'}' if depth > 0 => depth -= 1,
                b']' if depth == 0 => {
                    let mut all = elements_seen(&elements);
                    all.extend(slow_behind(&input[at + 1..]));
                    return all;
                }
                b',' if depth == 0 => {
                    elements.push(Vec::new());
                    continue;
                }
                _ => {}
            }
        }
        let element = elements.last_mut().unwrap();
        if depth == 0 && !in_string && byte.is_ascii_whitespace() {
            // Collapsed or trimmed, because white space there has no meaning.
            if !element.is_empty() && element.last() != Some(&0xFF) {
                element.push(0xFF);
            }
        } else {
            element.push(*byte);
        }
    }
    let unfinished = elements.pop().unwrap();
    let mut all = Vec::new();
    if !elements.is_empty() {
        elements.push(Vec::new());
        all = elements_seen(&elements);
        all.pop();
    }
    if !unfinished.is_empty() {
        all.extend(elements_seen(&[unfinished]));
    }
    all.push(Seen::Line(",".into()));
    all
}

fn elements_seen(elements: &[Vec<u8>]) -> Vec<Seen> {
    if elements.len() == 1 && elements[0].is_empty() {
        return Vec::new();
    }
    let see = |element: &Vec<u8>| {
        let gap = |byte: &u8| if *byte == 0xFF { b' ' } else { *byte };
        let element = element.strip_suffix(&[0xFF]).unwrap_or(element);
        match element {
            [] => Seen::Line(",".into()),
            _ => seen(&without_breaks(&element.iter().map(gap).collect::<Vec<_>>()), MAX),
        }
    };
    elements.iter().map(see).collect()
}

fn slow_behind(input: &[u8]) -> Vec<Seen> {
    let end = input.iter().position(|byte| *byte == b'\n');
    let (first, rest) = input.split_at(end.unwrap_or(input.len()));
    let blanks = first.iter().take_while(|b| b" \t\r".contains(b)).count();
    if blanks < first.len() {
        return slow_lines(&[b",", &input[blanks..]].concat());
    }
    slow_lines(rest.strip_prefix(b"\n").unwrap_or(rest))
}

fn slow_body(input: &[u8]) -> Vec<Seen> {
    let first = input.iter().position(|byte| !b" \t\r\n".contains(byte));
    match first {
        None => Vec::new(),
        Some(at) if input[at] == b'[' => slow_array(&input[at + 1..]),
        Some(_) => slow_lines(input),
    }
}

fn slow_stream(input: &[u8]) -> Vec<Seen> {
    let Some(at) = input.iter().position(|byte| !b"\r\n".contains(byte)) else {
        return Vec::new();
    };
    let input = &input[at..];
    if (b'1'..=b'9').contains(&input[0]) { slow_counted(input) } else { slow_lines(input) }
}

/// Bytes made of what matters to framing, and some that should not.
fn input() -> impl Strategy<Value = Vec<u8>> {
    let fragment = prop_oneof![
        3 => Just(&b"{\"a\":1}"[..]),
        3 => Just(&b"\n"[..]),
        2 => Just(&b"\r\n"[..]),
        2 => Just(&b","[..]),
        2 => Just(&b"{\"\\\"]\\\\\":1}"[..]),
        1 => prop::sample::select(vec![
            &b"\r"[..], b" ", b"\t", b"[", b"]", b"{", b"}", b"\"", b"\\", b"\\\"", b"0", b"9",
            b"7 {\"a\":1}", b"9 {\"b\":2}\r\n", b"3 {\n}", b"12", b"2 \n\n", b"19 ", b"17 {\"c\":3}",
            b"18 ", b"12345678901 ", b"xxxxxxxxxxxxxxxx", b"xxxxxxxxxxxxxxxxxxx", b"\xC3\xBC", b"\0",
            b"                    ", b"[{\"x\":[1,\"],\"]}", b"{\"x\":\"\n\"}",
        ]),
    ];
    vec(fragment, 0..24).prop_map(|fragments| fragments.concat())
}

/// The form is decided by the first bytes, so all of them get their share.
fn begin() -> impl Strategy<Value = &'static [u8]> {
    prop::sample::select(vec![
        &b""[..],
        b"[",
        b"\n \r\n[",
        b"7 {\"a\":1}",
        b"\r\n9 {\"b\":2}\r\n",
        b"\n  \n {",
    ])
}

/// Without a last CR that nothing follows, whose place in or behind the line is a matter of taste.
fn settled(mut input: Vec<u8>) -> Vec<u8> {
    while input.last() == Some(&b'\r') {
        input.pop();
    }
    input
}

fn not_blank(lines: Vec<Seen>) -> Vec<Seen> {
    lines.into_iter().filter(|l| *l != Seen::Blank).collect()
}

/// Of a connection nobody numbers the lines, and octet-counted messages that are too long are
/// reported out of turn.
fn unordered(lines: Vec<Seen>) -> (Vec<Seen>, usize) {
    let mut lines = not_blank(lines);
    let all = lines.len();
    lines.retain(|line| *line != Seen::TooLong);
    let too_long = all - lines.len();
    (lines, too_long)
}

#[test]
fn line_ends_before_the_first_event_are_dropped_in_any_split() {
    for length in 1..12 {
        let found = cut(StreamCutter::new(MAX), b"\r\n\r{\"a\":1}", &[length], MAX);
        assert_eq!(unordered(found), (vec![Seen::Line("{\"a\":1}".into())], 0), "{length}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(4000)
    })]

    #[test]
    fn any_split_of_a_connection_gives_the_same_lines(
        begin in begin(), input in input(), lengths in vec(1usize..12, 1..8)
    ) {
        let input = settled([begin, &input].concat());
        let found = cut(StreamCutter::new(MAX), &input, &lengths, MAX);
        prop_assert_eq!(unordered(found), unordered(slow_stream(&input)));
    }

    #[test]
    fn any_split_of_a_body_gives_the_same_lines(
        begin in begin(), input in input(), lengths in vec(1usize..12, 1..8)
    ) {
        let input = settled([begin, &input].concat());
        let found = cut(BodyCutter::new(MAX), &input, &lengths, MAX);
        prop_assert_eq!(found, slow_body(&input));
    }

    #[test]
    fn a_body_in_one_piece_is_cut_as_in_many(begin in begin(), input in input()) {
        let input = [begin, &input].concat();
        let whole = cut(BodyCutter::new(MAX), &input, &[usize::MAX], MAX);
        let trickle = cut(BodyCutter::new(MAX), &input, &[1], MAX);
        prop_assert_eq!(whole, trickle);
    }
}

fn body(input: &str) -> Vec<String> {
    shown(cut(BodyCutter::new(MAX), input.as_bytes(), &[usize::MAX], MAX))
}

fn stream(input: &str) -> Vec<String> {
    let found = cut(StreamCutter::new(MAX), input.as_bytes(), &[usize::MAX], MAX);
    shown(not_blank(found))
}

fn shown(lines: Vec<Seen>) -> Vec<String> {
    let show = |line| match line {
        Seen::Line(line) => line,
        Seen::Blank => "(blank)".into(),
        Seen::TooLong => "(too long)".into(),
    };
    lines.into_iter().map(show).collect()
}

#[test]
fn bodies() {
    let check = |input: &str, lines: &[&str]| assert_eq!(body(input), lines, "{input:?}");
    check("", &[]);
    check(" \r\n\n", &[]);
    check("{}\r\n\n{ }", &["{}", "(blank)", "{ }"]);
    check("\n\n{}\n", &["(blank)", "(blank)", "{}"]);
    check("[]", &[]);
    check(" [ \n ] \r\n", &[]);
    check("[{},{}]", &["{}", "{}"]);
    check("\n[ {} ,\n{\"a\":\r\n1}\n]\n", &["{}", "{\"a\":  1}"]);
    check("[[1,2],{\"],[\":3}]", &["[1,2]", "{\"],[\":3}"]);
    check("[\"\\\",\\\\\",{}]", &["\"\\\",\\\\\"", "{}"]);
    check("[,]", &[",", ","]);
    check("[{},,{}]", &["{}", ",", "{}"]);
    check("[{},]", &["{}", ","]);
    check("[{} {}]", &["{} {}"]);
    check("[{}]{}\n{}", &["{}", ",{}", "{}"]);
    check("[{}] \n\n{}", &["{}", "(blank)", "{}"]);
    check("[", &[","]);
    check("[{},", &["{}", ","]);
    check("[{},{\"a", &["{}", "{\"a", ","]);
    check("[{\"a\":\"\n\"}]", &["{\"a\":\"\0\"}"]);
    check("[\"xxxxxxxxxxxxxxxxxxxx\",{}]", &["(too long)", "{}"]);
}

#[test]
fn connections() {
    let check = |input: &str, lines: &[&str]| assert_eq!(stream(input), lines, "{input:?}");
    check("{}\n{}\r\n{\"a\":1}", &["{}", "{}", "{\"a\":1}"]);
    check("2 {}7 {\"a\":1}", &["{}", "{\"a\":1}"]);
    check("\r\n3 {}\n4 {}\r\n\n2 {}", &["{}", "{}", "{}"]);
    check("9 {\"a\":\n\r1}", &["{\"a\":  1}"]);
    check("5 {}\n{}", &["{} {}"]);
    check("2 {}{\"a\":1}\n2 {}", &["{}", "{\"a\":1}", "{}"]);
    check("1 \n2 {}", &["{}"]);
    check("20 xxxxxxxxxxxxxxxxxxxx2 {}", &["(too long)", "{}"]);
    check("12345678901 {}\n2 {}", &["12345678901 {}", "{}"]);
    check("12\n2 {}", &["12", "{}"]);
    check("7 {\"a\"", &["{\"a\""]);
    check("2 {}12", &["{}", "12"]);
}

#[test]
fn a_line_over_the_limit_is_counted_once_with_its_length() {
    let line = [&[b'x'; 5000][..], b"\r\n{}\n"].concat();
    for piece in [1, 7, 100, 4999, 5000, 5001] {
        let mut cutter = StreamCutter::new(100);
        let mut cuts = Vec::new();
        for piece in line.chunks(piece) {
            cutter.push(&mut piece.to_vec(), &mut cuts);
        }
        cutter.finish(&mut cuts);
        let oversized: Vec<_> =
            cuts.iter().filter(|cut| matches!(cut, Cut::Oversized { .. })).collect();
        assert!(
            matches!(oversized[..], [Cut::Oversized { bytes: 5000, head }] if head.len() == 100),
            "{piece}: {oversized:?}"
        );
        assert_eq!(cut_lines(&cuts), ["{}"], "what follows is not lost, in pieces of {piece}");
    }
}

fn cut_lines(cuts: &[Cut]) -> Vec<String> {
    let seen = cuts.iter().flat_map(|cut| flatten(cut, 100)).collect();
    let mut lines = shown(seen);
    lines.retain(|line| line != "(too long)");
    lines
}

const MIB: usize = 1024 * 1024;

#[test]
fn a_trickle_of_single_bytes_costs_no_more_than_its_length() {
    let long = "x".repeat(MIB - 100);
    let inputs = [format!("{long}\n"), format!("[\"{long}\"]"), format!("{MIB} {long}")];
    for input in inputs {
        let started = Instant::now();
        let found = cut(StreamCutter::new(MIB), input.as_bytes(), &[1], MIB);
        assert_eq!(found.len(), 1);
        cut(BodyCutter::new(MIB), input.as_bytes(), &[1], MIB);
        // Copying the unfinished line for every byte would take a minute.
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn an_endless_line_takes_no_more_memory_than_the_limit() {
    let check = |mut cutter: Box<dyn Cutter>, begin: &[u8]| {
        let mut cuts = Vec::new();
        cutter.push(&mut begin.to_vec(), &mut cuts);
        for _ in 0..1000 {
            cutter.push(&mut vec![b'x'; 1000], &mut cuts);
            assert!(cutter.tail_bytes() <= 2 * (10_000 + 1000) + 100);
        }
        cutter.finish(&mut cuts);
        cuts.retain(|cut| !matches!(cut, Cut::Lines(_)));
        assert!(matches!(cuts[..], [Cut::Oversized { bytes: 1_000_000.., .. }]));
    };
    check(Box::new(StreamCutter::new(10_000)), b"{");
    check(Box::new(StreamCutter::new(10_000)), b"9999999 ");
    check(Box::new(StreamCutter::new(10_000)), b"2 {}{");
    check(Box::new(BodyCutter::new(10_000)), b"{");
    check(Box::new(BodyCutter::new(10_000)), b"[\"");
}
