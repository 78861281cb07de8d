//! Requests that a web page makes a browser send, to an address that is there for this machine alone.

use std::net::IpAddr;

use hyper::Method;
use hyper::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::uri::Authority;

/// Where a browser says that a request comes from.
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Why a request is refused, if it is: it changes something, and a page of somebody else may have made it.
///
/// Pages can send such requests to any address that their browser reaches. Browsers say so in `Origin` or
/// `Sec-Fetch-Site`; where the name of the page leads here by a trick of its DNS, both seem right, and that
/// name stands in `Host`. Reading is free: what is read, other pages don't get to see.
pub(super) fn refuses(method: &Method, fields: &HeaderMap) -> Option<&'static str> {
    if matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    let is_own = |site: &[u8]| matches!(site, b"none" | b"same-origin");
    let is_foreign = fields.get(SEC_FETCH_SITE).is_some_and(|site| !is_own(site.as_bytes()));
    if fields.contains_key(ORIGIN) || is_foreign {
        return Some("requests that a web page sends are refused here");
    }
    // Browsers always send one.
    let host = fields.get(HOST)?;
    let is_known = host.to_str().is_ok_and(is_address_or_localhost);
    (!is_known)
        .then_some("requests to a name other than localhost are refused here: use the IP address")
}

fn is_address_or_localhost(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(method: Method, fields: &[(&'static str, &str)]) -> bool {
        let fields = fields
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        refuses(&method, &fields.collect()).is_some()
    }

    #[test]
    fn what_a_web_page_may_have_sent_is_refused() {
        for host in ["127.0.0.1:9600", "[::1]:9600", "localhost:9600", "LOCALHOST", "10.1.2.3"] {
            assert!(!refused(Method::POST, &[("host", host)]), "{host}");
            for own in ["none", "same-origin"] {
                assert!(!refused(Method::POST, &[("host", host), ("sec-fetch-site", own)]));
            }
            for site in ["cross-site", "same-site", "", "None"] {
                let fields = [("host", host), ("sec-fetch-site", site)];
                assert!(refused(Method::POST, &fields), "{site}");
                assert!(!refused(Method::GET, &fields), "{site}");
            }
            for origin in ["null", "http://evil.example", "http://127.0.0.1:9600"] {
                let fields = [("host", host), ("origin", origin)];
                assert!(refused(Method::POST, &fields) && refused(Method::DELETE, &fields));
                assert!(!refused(Method::GET, &fields) && !refused(Method::HEAD, &fields));
            }
        }
        let others = [
            "evil.example:9600",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "",
        ];
        for host in others {
            assert!(refused(Method::POST, &[("host", host)]), "{host}");
            assert!(!refused(Method::GET, &[("host", host)]), "{host}");
        }
        assert!(!refused(Method::POST, &[]), "no browser");
    }
}
