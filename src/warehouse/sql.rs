//! Where the text of a query ends, and whether it is one statement. Pure.
//!
//! Drivers put a query into a statement of their own (`COPY (...) TO STDOUT`), where a `;` is an error.
//!
//! What always holds: nothing is cut off but a `;` and the white space and comments behind it; where
//! databases read a text in different ways and it is not known which reads it, nothing is cut off unless
//! all agree.

use super::driver::Dialect;
use super::error::{Error, Failure};

/// How a database reads what looks the same everywhere.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// A backslash in `'...'` and `"..."` takes its special meaning from the next character.
    backslash: bool,
    /// A comment may stand in a comment.
    nested: bool,
    /// `$tag$...$tag$` is a text.
    dollar: bool,
    /// `#` and `//` begin a comment.
    hash: bool,
    slashes: bool,
    /// `'''...'''` is a text.
    triple: bool,
    /// `` `...` `` and `[...]` are names.
    backtick: bool,
    bracket: bool,
}

const PLAIN: Rules = Rules {
    backslash: false,
    nested: false,
    dollar: false,
    hash: false,
    slashes: false,
    triple: false,
    backtick: false,
    bracket: false,
};
const SQLITE: Rules = Rules { backtick: true, bracket: true, ..PLAIN };
const POSTGRES: Rules = Rules { nested: true, dollar: true, ..PLAIN };
const SNOWFLAKE: Rules = Rules { backslash: true, dollar: true, slashes: true, ..PLAIN };
const BIGQUERY: Rules =
    Rules { backslash: true, hash: true, triple: true, backtick: true, ..PLAIN };
const DATABRICKS: Rules = Rules { backslash: true, nested: true, backtick: true, ..PLAIN };
const SQL_SERVER: Rules = Rules { nested: true, bracket: true, ..PLAIN };

/// What is found in a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// One statement, which ends here.
    One(usize),
    /// There is something behind a `;`.
    More,
    /// A text, name or comment does not end.
    Open,
}

/// The query without a `;` at its end and what stands behind that. What is not certainly one whole
/// statement stays as it is: the database says why it does not like it.
///
/// # Errors
/// Of databases of which is known that they ask one at most: there are more.
pub(super) fn one_statement(sql: &str, dialect: Dialect) -> Result<&str, Error> {
    match found(sql, dialect) {
        Some(Found::One(end)) => Ok(sql.get(..end).unwrap_or(sql)),
        Some(Found::More) if matches!(dialect, Dialect::Sqlite | Dialect::Postgres) => {
            let message = "the query holds more than one statement: behind a `;` in it stands another; \
                           a model asks one, in which `with` can hold others";
            Err(Error::new(Failure::Query, message))
        }
        Some(Found::More | Found::Open) | None => Ok(sql),
    }
}

/// What all who may read it find; `None` if they differ.
fn found(sql: &str, dialect: Dialect) -> Option<Found> {
    let readers: &[Rules] = match dialect {
        Dialect::Sqlite => &[SQLITE],
        // Old servers, and Redshift, may take a backslash for special.
        Dialect::Postgres => &[POSTGRES, Rules { backslash: true, ..POSTGRES }],
        Dialect::DuckDb => &[POSTGRES],
        Dialect::Snowflake => &[SNOWFLAKE],
        Dialect::BigQuery => &[BIGQUERY],
        Dialect::Databricks => &[DATABRICKS],
        Dialect::SqlServer => &[SQL_SERVER],
        Dialect::Other => &[PLAIN, SQLITE, POSTGRES, SNOWFLAKE, BIGQUERY, DATABRICKS, SQL_SERVER],
    };
    let mut all = readers.iter().map(|rules| read(sql.as_bytes(), *rules));
    let first = all.next()?;
    all.all(|other| other == first).then_some(first)
}

fn read(sql: &[u8], rules: Rules) -> Found {
    let mut at = 0;
    // Behind the last thing that is no white space and no comment, and the `;` after it.
    let mut end = 0;
    let mut semicolon = None;
    while let Some(&byte) = sql.get(at) {
        let rest = &sql[at..];
        let comment = comment(rest, rules);
        if byte.is_ascii_whitespace() || comment.is_some() {
            match comment.unwrap_or(Some(1)) {
                Some(length) => at += length,
                None => return Found::Open,
            }
            continue;
        }
        if byte == b';' {
            // Empty statements count for nothing.
            semicolon.get_or_insert(at);
            at += 1;
            continue;
        }
        if semicolon.is_some() && end > 0 {
            return Found::More;
        }
        semicolon = None;
        // A backslash is special in PostgreSQL only behind an E.
        let is_word =
            |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$' | 0x80..);
        let before = &sql[..at];
        let is_escaped = matches!(before, [.., b'e' | b'E'])
            && !before.len().checked_sub(2).is_some_and(|at| is_word(&before[at]));
        let in_name = before.last().is_some_and(is_word);
        let length = match byte {
            b'\'' if rules.triple && rest.starts_with(b"'''") => until(rest, b"'''", true),
            b'"' if rules.triple && rest.starts_with(b"\"\"\"") => until(rest, b"\"\"\"", true),
            b'\'' => quoted(rest, b'\'', rules.backslash || (rules.dollar && is_escaped)),
            // Between these stands a text in some databases, a name in others.
            b'"' => quoted(rest, b'"', rules.backslash && rules.backtick),
            b'`' if rules.backtick => quoted(rest, b'`', false),
            b'[' if rules.bracket => quoted(rest, b']', false),
            b'$' if rules.dollar && !in_name => dollar(rest),
            _ => Some(1),
        };
        match length {
            Some(length) => at += length,
            None => return Found::Open,
        }
        end = at;
    }
    Found::One(semicolon.unwrap_or(sql.len()))
}

/// The length of a comment that begins here, `None` within if it does not end; `None` if none begins.
fn comment(rest: &[u8], rules: Rules) -> Option<Option<usize>> {
    let is_line = rest.starts_with(b"--")
        || (rules.hash && rest.starts_with(b"#"))
        || (rules.slashes && rest.starts_with(b"//"));
    if is_line {
        return Some(Some(memchr::memchr(b'\n', rest).map_or(rest.len(), |at| at + 1)));
    }
    if !rest.starts_with(b"/*") {
        return None;
    }
    let (mut at, mut depth) = (2, 1_usize);
    while depth > 0 {
        match rest.get(at..at + 2) {
            Some(b"*/") => (at, depth) = (at + 2, depth - 1),
            Some(b"/*") if rules.nested => (at, depth) = (at + 2, depth + 1),
            Some(_) => at += 1,
            None => return Some(None),
        }
    }
    Some(Some(at))
}

/// The length of what stands between quotes, with them; a doubled quote does not end it.
fn quoted(rest: &[u8], quote: u8, backslash: bool) -> Option<usize> {
    let mut at = 1;
    loop {
        match *rest.get(at)? {
            b'\\' if backslash => at += 2,
            byte if byte == quote && rest.get(at + 1) == Some(&quote) => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
}

/// The length of what stands between two of these, with them.
fn until(rest: &[u8], quote: &[u8], backslash: bool) -> Option<usize> {
    let mut at = quote.len();
    loop {
        match rest.get(at..)? {
            [] => return None,
            [b'\\', ..] if backslash => at += 2,
            here if here.starts_with(quote) => return Some(at + quote.len()),
            _ => at += 1,
        }
    }
}

/// The length of `$tag$...$tag$`; of `$` alone where none begins.
fn dollar(rest: &[u8]) -> Option<usize> {
    let name = rest[1..]
        .iter()
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | 0x80..));
    let tag_end = 1 + name.count();
    let is_tag = rest.get(tag_end) == Some(&b'$') && !rest[1].is_ascii_digit();
    if is_tag { until(rest, &rest[..=tag_end], false) } else { Some(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Dialect::{BigQuery, DuckDb, Other, Postgres, Snowflake, SqlServer, Sqlite};

    #[test]
    fn what_stands_behind_the_end_is_cut_off_and_nothing_else() {
        // What is cut off stands behind the mark.
        for (dialect, marked) in [
            (Other, "select 1"),
            (Other, "select 1 -- all"),
            (Other, "select 1¦;"),
            (Other, "select 1 ¦; ;\n;"),
            (Other, "select 1¦; -- all"),
            (Other, "select 1¦; -- all; of it\n/* and ' this */ ;--"),
            (Other, "select 1 -- a;\n¦; -- b\r\n"),
            (Other, "-- first;\nselect 1¦;"),
            (Other, "select ';' as x, 'it''s; ' as y¦; -- 'z"),
            (Other, "select \"a;\"\";\" from t¦; /* \" */"),
            (Other, "select 5 - - 3 / 2 * 1¦;"),
            (Other, "select 'é;' as \"ü\"¦;"),
            (Other, "¦;"),
            (Other, ""),
            // Who reads it makes the difference.
            (Other, "select 'a\\'; -- b"),
            (Postgres, "select 'a\\'; -- b"),
            (DuckDb, "select 'a\\'¦; -- b"),
            (Sqlite, "select 'a\\'¦; -- b"),
            (Snowflake, "select 'a\\'; -- b"),
            (Snowflake, "select 'a\\'; -- b'¦; -- c"),
            (BigQuery, "select 'a\\'; -- b'¦; # c;"),
            (BigQuery, "select '''it's; -- a'''¦;"),
            (BigQuery, "select `a;'` from t¦; -- b"),
            (Postgres, "select E'a\\'; -- b'¦; -- c"),
            (DuckDb, "select e'a\\'; -- b'¦; -- c"),
            (DuckDb, "select type'a\\'¦; -- b"),
            (Postgres, "select 1¦; /* a /* b */ ; */"),
            (Postgres, "select $$; -- '$$, $a$ $b$ $$; $a$¦; -- c"),
            (Postgres, "select $1, a$b$c from t¦;"),
            (Postgres, "select 1¦; -- $a$"),
            (Postgres, "select a['x;'] from t¦; -- b"),
            (Snowflake, "select $$it's; // -- $$¦; // c"),
            (SqlServer, "select [a;'] from t¦; -- b"),
            (Sqlite, "select [a;'], `b;` from t¦; -- b"),
            (Other, "select a[1] from t where b = $1¦; -- c"),
            // What does not end, or is more than one for somebody, stays as it is.
            (Other, "select 1; # c"),
            (Other, "select 1; /* a /* b */ ; */"),
            (Other, "select 'a; -- b"),
            (Other, "select 1; /* a"),
            (Postgres, "select 1; /* a /* b */"),
            (Postgres, "select $a$; $b$;"),
        ] {
            let sql = marked.replace('¦', "");
            let left = marked.split('¦').next().unwrap_or_default();
            assert_eq!(one_statement(&sql, dialect), Ok(left), "{dialect:?}: {sql}");
        }
    }

    #[test]
    fn a_second_statement_is_seen_where_it_is_one() {
        for (dialect, sql, is_many) in [
            (Postgres, "select 1; select 2", true),
            (Sqlite, "select 1; -- a\n select 2;", true),
            (Sqlite, "select 1; /* a /* b */ c */", true),
            (Other, "select 1; select 2", true),
            (Other, "; -- a\n; select 2", false),
            (Other, "select 1; # select 2", false),
            (Other, "select ';select 2'", false),
            (Other, "select '\\'; select 2 --'", false),
            (Sqlite, "select '\\'; select 2 --'", true),
            (Snowflake, "select '\\'; select 2 --'", false),
            (Postgres, "select $a$; select 2", false),
        ] {
            let seen = found(sql, dialect) == Some(Found::More);
            assert_eq!(seen, is_many, "{dialect:?}: {sql}");
            let is_refused = is_many && dialect != Other;
            assert_eq!(one_statement(sql, dialect).is_err(), is_refused, "{dialect:?}: {sql}");
        }
    }

    /// Whatever the text: what is cut off begins with a `;`, and cutting again finds nothing more.
    #[test]
    fn any_text_is_read_to_an_end() {
        const PIECES: [&str; 24] = [
            "'", "\"", "`", "[", "]", "$", "$$", "$a$", "\\", "--", "//", "#", "/*", "*/", ";",
            "\n", " ", "e", "E'", "1", "é", "'''", "\"\"\"", "select",
        ];
        let mut rng = fastrand::Rng::with_seed(7);
        let dialects = [Sqlite, Postgres, DuckDb, Snowflake, BigQuery, SqlServer, Other];
        for _ in 0..100_000 {
            let pieces = (0..rng.usize(..12)).map(|_| PIECES[rng.usize(..PIECES.len())]);
            let sql: String = pieces.collect();
            for dialect in dialects {
                let Ok(kept) = one_statement(&sql, dialect) else { continue };
                let cut = sql.strip_prefix(kept).unwrap();
                assert!(cut.is_empty() || cut.starts_with(';'), "{dialect:?}: {sql}");
                assert_eq!(one_statement(kept, dialect), Ok(kept), "{dialect:?}: {sql}");
            }
        }
    }
}
