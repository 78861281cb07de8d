//! Where a destination delivers to, in a form that fits on a command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Raw NDJSON.
    Tcp(SocketAddr),
    /// `POST` of NDJSON to this path.
    Http(SocketAddr, String),
    /// Appended.
    File(PathBuf),
    /// Nowhere.
    Blackhole,
}

/// What kind of destinations a scenario has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputKind {
    /// [`Output::Tcp`].
    Tcp,
    /// [`Output::Http`].
    Http,
    /// [`Output::File`].
    File,
    /// [`Output::Blackhole`].
    Blackhole,
}

impl fmt::Display for Output {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "tcp:{address}"),
            Self::Http(address, path) => write!(formatter, "http:{address}{path}"),
            Self::File(path) => write!(formatter, "file:{}", path.display()),
            Self::Blackhole => formatter.write_str("blackhole"),
        }
    }
}

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = |text: &str| text.parse().map_err(|error| format!("{text}: {error}"));
        match text.split_once(':') {
            Some(("tcp", rest)) => Ok(Self::Tcp(address(rest)?)),
            Some(("http", rest)) => {
                let path_at = rest.find('/').unwrap_or(rest.len());
                Ok(Self::Http(address(&rest[..path_at])?, rest[path_at..].to_owned()))
            }
            Some(("file", rest)) => Ok(Self::File(rest.into())),
            None if text == "blackhole" => Ok(Self::Blackhole),
            _ => Err(format!("{text}: tcp:, http:, file: or blackhole is meant")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_output_survives_the_command_line() {
        for text in ["tcp:127.0.0.1:9", "http:127.0.0.1:9/3", "file:/a/b:c", "blackhole"] {
            assert_eq!(text.parse::<Output>().unwrap().to_string(), text);
        }
        assert!("udp:127.0.0.1:9".parse::<Output>().is_err());
    }
}
