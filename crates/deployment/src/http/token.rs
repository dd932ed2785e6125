//! Where a request carries its token.

use http::{HeaderMap, Uri, header};

use super::extract::Query;

/// The name of the cookie and of the query parameter (`codersdk/client.go`).
const NAME: &str = "coder_session_token";
/// The name of the header.
const HEADER: &str = "coder-session-token";

/// The token of a request, a user's or an agent's: the first that is not empty of cookie, query
/// parameter, header, `Authorization: Bearer` and query parameter `access_token`
/// (`coderd/httpmw/apikey.go`). A stale cookie beats a good header.
#[must_use]
pub fn of_request(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let query = Query::of(uri);
    cookie(headers)
        .or_else(|| query.text(NAME).map(str::to_owned))
        .or_else(|| {
            let header = headers.get(HEADER).and_then(|value| value.to_str().ok());
            header.filter(|token| !token.is_empty()).map(str::to_owned)
        })
        .or_else(|| bearer(headers))
        .or_else(|| query.text("access_token").map(str::to_owned))
}

fn cookie(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, token)| *name == NAME && !token.is_empty())
        .map(|(_, token)| token.trim_matches('"').to_owned())
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_first_one_counts() {
        // All places at once; each row empties the first of those that are left.
        let all = [
            ("cookie", Some("a=b; coder_session_token=cookie")),
            ("query", Some("coder_session_token=query")),
            ("header", Some("header")),
            ("bearer", Some("bEARER bearer")),
            ("access", Some("access_token=access")),
        ];
        for first in 0..=all.len() {
            let value = |at: usize| if at < first { None } else { all[at].1 };
            let mut headers = HeaderMap::new();
            let mut put = |name, value: Option<&'static str>| {
                if let Some(value) = value {
                    headers.insert(name, value.parse().unwrap());
                }
            };
            put(header::COOKIE, value(0));
            put(HEADER.parse().unwrap(), value(2));
            put(header::AUTHORIZATION, value(3));
            let query = [value(1), value(4)].into_iter().flatten().collect::<Vec<_>>().join("&");
            let uri = format!("/x?{query}").parse().unwrap();
            let found = of_request(&headers, &uri);
            assert_eq!(found.as_deref(), all.get(first).map(|(name, _)| *name), "from {first}");
        }
    }

    #[test]
    fn what_is_no_token() {
        for (name, value) in [
            ("cookie", "coder_session_token="),
            ("cookie", "other_coder_session_token=x"),
            ("coder-session-token", ""),
            ("authorization", "Basic eDp5"),
            ("authorization", "Bearer"),
            ("authorization", "Bearer  "),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
            let uri = "/x?coder_session_token=".parse().unwrap();
            assert_eq!(of_request(&headers, &uri), None, "{name}: {value}");
        }
    }
}
