//! What a string must look like: addresses, URLs, times, sizes. Every function says on failure what
//! is wrong, and where it can what to write instead.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::header::{HeaderName, HeaderValue};
use hyper::http::Uri;
use jiff::SignedDuration;
use jiff::fmt::strtime::BrokenDownTime;

/// What is wrong with a string, and what to write instead. Holds nothing of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) message: &'static str,
    pub(super) help: &'static str,
}

fn wrong<T>(message: &'static str, help: &'static str) -> Result<T, Wrong> {
    Err(Wrong { message, help })
}

/// A number of bytes with a unit.
pub(super) fn size(text: &str) -> Result<u64, Wrong> {
    match text.parse::<bytesize::ByteSize>() {
        Ok(size) => Ok(size.as_u64()),
        Err(_) => wrong(
            "not a size",
            "write a number with a unit, such as \"64KiB\", \"8MiB\" or \"1GiB\"",
        ),
    }
}

/// A length of time with a unit.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    const HELP: &str = "write a number with a unit, such as \"200ms\", \"30s\", \"5m\" or \"24h\"";
    let Ok(duration) = text.parse::<SignedDuration>() else {
        return wrong("not a duration", HELP);
    };
    Duration::try_from(duration).or_else(|_| wrong("a duration can't be negative", HELP))
}

/// An address to listen on.
pub(super) fn listen(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.contains("${") {
        return wrong(
            "environment variables can't be used here",
            "write the address itself, such as \"127.0.0.1:9601\"",
        );
    }
    wrong(
        "not an IP address with a port",
        "write an address such as \"127.0.0.1:9601\", \"[::1]:9601\" or, for every interface, \
         \"0.0.0.0:9601\"",
    )
}

/// An absolute `http` or `https` URL.
pub(super) fn url(text: &str) -> Result<(), Wrong> {
    const HELP: &str = "write a URL such as \"https://collect.example.com/events\"";
    let Ok(uri) = text.parse::<Uri>() else {
        return wrong("not a URL", HELP);
    };
    match uri.scheme_str() {
        Some("http" | "https") => {}
        Some(_) => return wrong("not an http or https URL", HELP),
        None => return wrong("a URL without http:// or https://", HELP),
    }
    let Some(authority) = uri.authority() else {
        return wrong("a URL without a host", HELP);
    };
    if authority.as_str().contains('@') {
        return wrong(
            "a user and password in a URL are not sent",
            "write headers.authorization = { file = \"...\" } instead",
        );
    }
    if authority.host().is_empty() {
        return wrong("a URL without a host", HELP);
    }
    if authority.as_str() != authority.host() && authority.port_u16().is_none() {
        return wrong("a URL with an impossible port", HELP);
    }
    Ok(())
}

/// `host:port`
pub(super) fn address(text: &str) -> Result<(), Wrong> {
    const HELP: &str = "write a host and a port, such as \"logs.example.com:9000\"";
    if text.contains("://") {
        return wrong("an address has no scheme", HELP);
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return wrong("an address without a port", HELP);
    };
    if port.parse::<u16>().is_ok_and(|port| port > 0) {
        let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let valid = match literal {
            Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
            None => is_host(host),
        };
        if valid {
            return Ok(());
        }
        if host.parse::<std::net::Ipv6Addr>().is_ok() {
            return wrong("an IPv6 address without brackets", "write \"[ADDRESS]:PORT\"");
        }
        return wrong("not a host name or IP address", HELP);
    }
    wrong("not a port from 1 to 65535", HELP)
}

fn is_host(host: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    !host.is_empty() && host.len() <= 253 && host.bytes().all(allowed)
}

/// A path with `strftime` conversions.
pub(super) fn file_path(text: &str) -> Result<(), Wrong> {
    const HELP: &str = "write a path such as \"/var/lib/consentd/out/lake-%Y%m%d-%H.ndjson\"";
    if text.is_empty() || text.ends_with('/') || text.contains('\0') {
        return wrong("not the path of a file", HELP);
    }
    let time = BrokenDownTime::from(jiff::Timestamp::UNIX_EPOCH);
    match time.to_string(text) {
        Ok(_) => Ok(()),
        Err(_) => wrong(
            "an unknown strftime conversion",
            "write conversions such as %Y, %m, %d, %H, and %% for a percent sign",
        ),
    }
}

/// The value of a header field.
pub(super) fn header_value(text: &str) -> Result<(), Wrong> {
    match HeaderValue::from_str(text) {
        Ok(_) => Ok(()),
        Err(_) => wrong(
            "not possible as the value of a header field",
            "write visible characters on one line",
        ),
    }
}

/// An option of a database driver.
pub(super) fn option(text: &str) -> Result<(), Wrong> {
    if text.contains('\0') {
        return wrong("not possible as an option: it holds a NUL character", "write text");
    }
    Ok(())
}

/// The name of a header field that an operator may set.
pub(super) fn header_name(text: &str) -> Result<(), Wrong> {
    let Ok(name) = HeaderName::from_bytes(text.as_bytes()) else {
        return wrong(
            "not possible as the name of a header field",
            "write letters, digits and `-`",
        );
    };
    let ours = [
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "idempotency-key",
        "transfer-encoding",
    ];
    if ours.contains(&name.as_str()) {
        return wrong(
            "consentd sets this header field itself",
            "take it out; `format` and `compression` decide what is sent",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations() {
        assert_eq!(size("1MiB"), Ok(1 << 20));
        assert_eq!(size("1 MB"), Ok(1_000_000));
        assert_eq!(size("512"), Ok(512));
        for text in ["", "MiB", "-1", "1 MiBs", "one"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(duration("200ms"), Ok(Duration::from_millis(200)));
        assert_eq!(duration("1h 30m"), Ok(Duration::from_secs(5400)));
        for text in ["", "30", "-1s", "soon", "1 parsec"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn urls() {
        for text in ["http://a", "https://a.b:8/c?d=e", "http://[::1]:80/", "http://a:65535"] {
            assert_eq!(url(text), Ok(()), "{text}");
        }
        let wrong = [
            "",
            "a.b/c",
            "/events",
            "ftp://a/",
            "http://",
            "http:///x",
            "http://u:p@a/",
            "http://a b/",
            "http://a:99999/",
        ];
        for text in wrong {
            assert!(url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn addresses() {
        for text in ["localhost:1", "10.0.0.1:65535", "[::1]:9000", "a-b.c_d:9"] {
            assert_eq!(address(text), Ok(()), "{text}");
        }
        for text in ["", "a", "a:", "a:0", "a:65536", ":9", "::1:9", "http://a:1", "a b:1", "[x]:1"]
        {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn paths_and_headers() {
        for text in ["a", "out/%Y/%m/%d-%H.ndjson", "/tmp/100%%"] {
            assert_eq!(file_path(text), Ok(()), "{text}");
        }
        for text in ["", "out/", "a%", "a%!", "a\0b"] {
            assert!(file_path(text).is_err(), "{text}");
        }
        assert!(header_name("X-Api-Key").is_ok() && header_value("Bearer abc").is_ok());
        for text in ["", "a b", "Content-Length", "content-type"] {
            assert!(header_name(text).is_err(), "{text}");
        }
        assert!(header_value("a\nb").is_err());
    }
}
