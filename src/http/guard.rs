//! Decides which requests are answered at all.
//! Takes a request's head; returns nothing, or the refusal. A web page in somebody's browser must not read the
//! supervisor, neither across origins nor by DNS rebinding (a name whose owner points it here).

use std::net::{IpAddr, SocketAddr};

use axum::http::{
    HeaderMap, StatusCode,
    header::{AUTHORIZATION, CONTENT_LENGTH, HOST, ORIGIN, TRANSFER_ENCODING},
    request::Parts,
    uri::Authority,
};
use sha2::{Digest as _, Sha256};

use crate::config::Secret;

/// The default port of `http://` (RFC 9110, 4.2.1).
const HTTP_PORT: u16 = 80;

pub struct Guard {
    listen: SocketAddr,
    /// Its hash: hashes have equal length, and comparing them reveals nothing about the token.
    token: Option<[u8; 32]>,
}

/// Status and sentence of a refusal.
pub type Refusal = (StatusCode, &'static str);

impl Guard {
    pub fn new(listen: SocketAddr, token: Option<&Secret>) -> Self {
        Self { listen, token: token.map(|token| hash(token.expose())) }
    }

    /// # Errors
    /// The refusal.
    pub fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        let headers = &head.headers;
        let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
        if headers.contains_key(TRANSFER_ENCODING) || lengths.any(|length| length != "0") {
            return Err((StatusCode::PAYLOAD_TOO_LARGE, "no request here has a body"));
        }
        let host = only(headers, &HOST).ok_or((StatusCode::BAD_REQUEST, "exactly one Host header is needed"))?;
        // A target with a host of its own counts before the header (RFC 9112, 3.2.2); so both have to fit.
        if !self.is_ours(host) || head.uri.authority().is_some_and(|target| !self.is_ours(target.as_str())) {
            return Err((
                StatusCode::FORBIDDEN,
                "the Host is not this server's: ask localhost or the configured address, with the port",
            ));
        }
        if headers.contains_key(ORIGIN) {
            let same = |origin: &str| origin.strip_prefix("http://").is_some_and(|it| it.eq_ignore_ascii_case(host));
            if !only(headers, &ORIGIN).is_some_and(same) {
                return Err((StatusCode::FORBIDDEN, "pages of another origin are not answered"));
            }
        }
        if self.token.is_some_and(|wanted| !given(headers).is_some_and(|token| same(&hash(token), &wanted))) {
            return Err((
                StatusCode::UNAUTHORIZED,
                "the token of api.token_env or api.token_file is needed: Authorization: Bearer …",
            ));
        }
        Ok(())
    }

    /// Whether `host` is a loopback name or address, or the one that is listened at, with our port. An address can't be
    /// rebound, so where every address is listened at, any will do.
    fn is_ours(&self, host: &str) -> bool {
        // An authority may also carry a user and a password; a Host header may not.
        let Some(authority) = host.parse::<Authority>().ok().filter(|_| !host.contains('@')) else { return false };
        let port = match (authority.port(), authority.port_u16()) {
            (None, _) => HTTP_PORT,
            (Some(_), Some(port)) => port,
            (Some(_), None) => return false,
        };
        let name = authority.host();
        let address = name.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(name);
        let listen = self.listen.ip().to_canonical();
        port == self.listen.port()
            && match address.parse::<IpAddr>().map(|address| address.to_canonical()) {
                Ok(address) => address.is_loopback() || address == listen || listen.is_unspecified(),
                Err(_) => name.eq_ignore_ascii_case("localhost"),
            }
    }
}

/// The value of a header that occurs once.
fn only<'h>(headers: &'h HeaderMap, name: &axum::http::HeaderName) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())?.to_str().ok()
}

/// The token of a request (RFC 6750, 2.1).
fn given(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = only(headers, &AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

/// Looks at every byte, wherever the first difference is.
fn same(one: &[u8; 32], other: &[u8; 32]) -> bool {
    one.iter().zip(other).fold(0, |differs, (a, b)| std::hint::black_box(differs | (a ^ b))) == 0
}

#[cfg(test)]
mod tests {
    use axum::http::Request;

    use super::*;

    fn answer(guard: &Guard, target: &str, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, ()) = request.body(()).expect("a request").into_parts();
        guard.admit(&head).map_or_else(|(status, _)| status.as_u16(), |()| 200)
    }

    fn at(listen: &str) -> Guard {
        Guard::new(listen.parse().expect("an address"), None)
    }

    #[test]
    fn only_our_own_names_are_answered() {
        let (loopback, lan, all) = (at("127.0.0.1:7878"), at("192.0.2.7:7878"), at("0.0.0.0:7878"));
        for (host, wanted) in [
            ("127.0.0.1:7878", [200, 200, 200]),
            ("localhost:7878", [200, 200, 200]),
            ("LocalHost:7878", [200, 200, 200]),
            ("127.9.8.7:7878", [200, 200, 200]),
            ("[::1]:7878", [200, 200, 200]),
            ("[::ffff:127.0.0.1]:7878", [200, 200, 200]),
            ("192.0.2.7:7878", [403, 200, 200]),
            ("192.0.2.8:7878", [403, 403, 200]),
            ("127.0.0.1", [403, 403, 403]),
            ("127.0.0.1:", [403, 403, 403]),
            ("127.0.0.1:80", [403, 403, 403]),
            ("127.0.0.1:7878.evil.example", [403, 403, 403]),
            ("evil.example:7878", [403, 403, 403]),
            ("localhost.evil.example:7878", [403, 403, 403]),
            ("127.0.0.1.evil.example:7878", [403, 403, 403]),
            ("127.1:7878", [403, 403, 403]),
            ("2130706433:7878", [403, 403, 403]),
            ("x@127.0.0.1:7878", [403, 403, 403]),
            ("127.0.0.1:99999", [403, 403, 403]),
            ("", [403, 403, 403]),
        ] {
            let found = [&loopback, &lan, &all].map(|guard| answer(guard, "/health", &[("host", host)]));
            assert_eq!(found, wanted, "{host}");
        }
        assert_eq!(answer(&at("127.0.0.1:80"), "/", &[("host", "localhost")]), 200);
        assert_eq!(answer(&loopback, "/", &[]), 400);
        assert_eq!(answer(&loopback, "/", &[("host", "localhost:7878"), ("host", "localhost:7878")]), 400);
        assert_eq!(answer(&loopback, "http://evil.example:7878/", &[("host", "localhost:7878")]), 403);
        assert_eq!(answer(&loopback, "http://localhost:7878/", &[("host", "localhost:7878")]), 200);
    }

    #[test]
    fn pages_of_other_origins_are_refused() {
        let guard = at("127.0.0.1:7878");
        for (origin, wanted) in [
            ("http://localhost:7878", 200),
            ("http://127.0.0.1:7878", 403),
            ("http://localhost:3000", 403),
            ("https://localhost:7878", 403),
            ("http://evil.example", 403),
            ("null", 403),
            ("", 403),
        ] {
            assert_eq!(answer(&guard, "/", &[("host", "localhost:7878"), ("origin", origin)]), wanted, "{origin}");
        }
        let twice =
            [("host", "localhost:7878"), ("origin", "http://localhost:7878"), ("origin", "http://evil.example")];
        assert_eq!(answer(&guard, "/", &twice), 403);
    }

    #[test]
    fn a_token_is_asked_for_where_there_is_one() {
        let token = Secret::new("0123456789abcdef");
        let guard = Guard::new("127.0.0.1:7878".parse().expect("an address"), Some(&token));
        for (given, wanted) in [
            ("Bearer 0123456789abcdef", 200),
            ("bearer  0123456789abcdef", 200),
            ("Bearer 0123456789abcdeg", 401),
            ("Bearer 0123456789abcde", 401),
            ("Bearer 0123456789abcdef0", 401),
            ("Bearer", 401),
            ("Bearer ", 401),
            ("Basic 0123456789abcdef", 401),
            ("0123456789abcdef", 401),
        ] {
            assert_eq!(answer(&guard, "/", &[("host", "localhost:7878"), ("authorization", given)]), wanted, "{given}");
        }
        assert_eq!(answer(&guard, "/", &[("host", "localhost:7878")]), 401);
        // A foreign page learns nothing of whether its guess was right.
        let right = [("host", "evil.example"), ("authorization", "Bearer 0123456789abcdef")];
        assert_eq!(answer(&guard, "/", &right), 403);
    }

    #[test]
    fn bodies_are_refused() {
        let guard = at("127.0.0.1:7878");
        for (header, wanted) in
            [(("content-length", "0"), 200), (("content-length", "1"), 413), (("transfer-encoding", "chunked"), 413)]
        {
            assert_eq!(answer(&guard, "/", &[("host", "localhost:7878"), header]), wanted, "{header:?}");
        }
    }
}
