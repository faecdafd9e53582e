//! The page: three static files, whose script uses the API.
//!
//! The script needs no other host, and a site in the browser must not reach the API by a name of its own (DNS
//! rebinding): requests are answered only if they name this machine or an address.

use axum::{
    Router,
    extract::Request,
    http::{
        HeaderMap, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, X_CONTENT_TYPE_OPTIONS,
        },
    },
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files.
const FILES: [(&str, &str, &str); 3] = [
    (
        "/",
        "text/html; charset=utf-8",
        include_str!("page/index.html"),
    ),
    (
        "/page.css",
        "text/css; charset=utf-8",
        include_str!("page/page.css"),
    ),
    (
        "/page.js",
        "text/javascript; charset=utf-8",
        include_str!("page/page.js"),
    ),
];

/// Adds the files to the routes of the API, and protects all of them.
pub(super) fn with_page(mut router: Router) -> Router {
    for (path, kind, text) in FILES {
        let head = [
            (CONTENT_TYPE, kind),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            // The files change with the program.
            (CACHE_CONTROL, "no-cache"),
        ];
        router = router.route(path, get(move || std::future::ready((head, text))));
    }
    router.layer(axum::middleware::from_fn(local_names_only))
}

/// Refuses requests that name another host.
async fn local_names_only(request: Request, next: Next) -> Response {
    if names_this_machine(request.headers()) {
        return next.run(request).await;
    }
    let why = "use localhost or an address as host name";
    (StatusCode::MISDIRECTED_REQUEST, why).into_response()
}

/// Whether the host is `localhost` or an address. A name could be another site's.
fn names_this_machine(headers: &HeaderMap) -> bool {
    let Some(Ok(host)) = headers.get(HOST).map(|host| host.to_str()) else {
        return false;
    };
    if let Some(bracketed) = host.strip_prefix('[') {
        let address = bracketed.split(']').next().unwrap_or_default();
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let name = host.split(':').next().unwrap_or_default();
    name.eq_ignore_ascii_case("localhost") || name.parse::<std::net::Ipv4Addr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_names_are_refused() {
        let named = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            names_this_machine(&headers)
        };
        for host in [
            "localhost",
            "LOCALHOST:8053",
            "127.0.0.1:8053",
            "10.1.2.3",
            "[::1]:8053",
        ] {
            assert!(named(host), "{host}");
        }
        for host in [
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com:8053",
            "[x]",
            "",
        ] {
            assert!(!named(host), "{host}");
        }
        assert!(!names_this_machine(&HeaderMap::new()));
    }
}
