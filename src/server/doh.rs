//! DNS messages in HTTP requests of any version (RFC 8484): decoding requests, error responses, and cache
//! lifetimes of replies.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use bytes::Bytes;
use hyper::{
    Method, Response, StatusCode,
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue},
    http::request::Parts,
};

use crate::{
    query::Transport,
    server::{
        caller::Caller,
        exchange::{Replies, is_query},
    },
    wire::{Header, Rcode, Reader, Type},
};

/// The path of queries.
const PATH: &str = "/dns-query";

/// The media type of queries and replies.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/dns-message");

/// Bound on the bytes of a query.
pub(in crate::server) const MAX_MESSAGE: usize = crate::wire::MAX_MESSAGE;

/// Maximum cache lifetime of a reply, and that of a reply without a TTL, in seconds; as in CoreDNS.
const MAX_AGE: u32 = 3600;
const AGE_WITHOUT_TTL: u32 = 5;

/// The location of a request's query.
pub(in crate::server) enum QueryLocation {
    /// In the URI, decoded.
    Message(Vec<u8>),
    /// In the body.
    Body,
}

/// An HTTP error: the status and the text for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) struct HttpError(StatusCode, &'static str);

impl HttpError {
    pub(in crate::server) const TOO_LARGE: Self = Self(
        StatusCode::PAYLOAD_TOO_LARGE,
        "a DNS message has at most 65535 bytes\n",
    );
    pub(in crate::server) const TOO_SLOW: Self =
        Self(StatusCode::REQUEST_TIMEOUT, "the message came too slowly\n");
    pub(in crate::server) const BROKEN: Self =
        Self(StatusCode::BAD_REQUEST, "the message is incomplete\n");
    const ELSEWHERE: Self = Self(
        StatusCode::NOT_FOUND,
        "the path of DNS queries is /dns-query\n",
    );
    const METHOD: Self = Self(
        StatusCode::METHOD_NOT_ALLOWED,
        "the methods of DNS queries are GET and POST\n",
    );
    /// A response to HEAD has no body.
    const HEAD: Self = Self(StatusCode::METHOD_NOT_ALLOWED, "");
    const OTHER_TYPE: Self = Self(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "the media type of DNS queries is application/dns-message\n",
    );
    const NO_MESSAGE: Self = Self(
        StatusCode::BAD_REQUEST,
        "a GET request has one parameter 'dns': a DNS message in base64url, without padding\n",
    );
    const NO_QUERY: Self = Self(StatusCode::BAD_REQUEST, "not a DNS query\n");
    const NO_REPLY: Self = Self(StatusCode::INTERNAL_SERVER_ERROR, "the query was dropped\n");
}

/// Locates the query of a request by its head.
pub(in crate::server) fn locate_query(head: &Parts) -> Result<QueryLocation, HttpError> {
    if head.uri.path() != PATH {
        return Err(HttpError::ELSEWHERE);
    }
    if head.method == Method::POST {
        // A missing Content-Type is accepted.
        let given = head.headers.get(CONTENT_TYPE);
        return if given.is_none_or(is_dns_message) {
            Ok(QueryLocation::Body)
        } else {
            Err(HttpError::OTHER_TYPE)
        };
    }
    if head.method == Method::HEAD {
        return Err(HttpError::HEAD);
    }
    if head.method != Method::GET {
        return Err(HttpError::METHOD);
    }
    let parameters = head.uri.query().unwrap_or_default().split('&');
    let mut given = parameters.filter_map(|parameter| parameter.strip_prefix("dns="));
    let (Some(text), None) = (given.next(), given.next()) else {
        return Err(HttpError::NO_MESSAGE);
    };
    if text.len() > MAX_MESSAGE.div_ceil(3) * 4 {
        return Err(HttpError::TOO_LARGE);
    }
    let decoded = BASE64_URL_SAFE_NO_PAD.decode(text);
    decoded
        .map(QueryLocation::Message)
        .map_err(|_| HttpError::NO_MESSAGE)
}

/// Whether a Content-Type is that of DNS messages, whatever parameters it has.
fn is_dns_message(value: &HeaderValue) -> bool {
    let essence = value.as_bytes().split(|byte| *byte == b';').next();
    essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(MEDIA_TYPE.as_bytes())
    })
}

/// The response to a message or to an invalid request; counted.
pub(in crate::server) async fn respond(
    caller: &Caller,
    message: Result<Bytes, HttpError>,
) -> Response<Bytes> {
    let replied = match message {
        Ok(message) if is_query(&message) => match caller.answer(&message).await {
            Replies::One(bytes) => Ok(bytes),
            Replies::None | Replies::Several(_) => Err(HttpError::NO_REPLY),
        },
        Ok(_) => Err(HttpError::NO_QUERY),
        Err(error) => Err(error),
    };
    let response = match replied {
        Ok(bytes) => reply(bytes),
        Err(error) => refusal(error),
    };
    let metrics = caller.handler.server().metrics();
    let responses = if caller.transport == Transport::Https3 {
        &metrics.https3_responses_total
    } else {
        &metrics.https_responses_total
    };
    let status = response.status();
    responses
        .with_label_values(&[&*caller.label(), status.as_str()])
        .inc();
    response
}

fn reply(bytes: Vec<u8>) -> Response<Bytes> {
    let age = format!("max-age={}", freshness(&bytes));
    let mut response = Response::new(bytes.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, MEDIA_TYPE);
    if let Ok(age) = age.try_into() {
        headers.insert(CACHE_CONTROL, age);
    }
    response
}

fn refusal(HttpError(status, reason): HttpError) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(reason.as_bytes()));
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, text);
    if status == StatusCode::METHOD_NOT_ALLOWED {
        let methods = HeaderValue::from_static("GET, POST");
        response.headers_mut().insert(ALLOW, methods);
    }
    response
}

/// Cache lifetime of a reply in seconds: the smallest TTL, for a negative reply at most the SOA record's
/// MINIMUM field (RFC 8484 section 5.1), and [`AGE_WITHOUT_TTL`] for errors and replies without records.
fn freshness(reply: &[u8]) -> u32 {
    lowest_ttl(reply).map_or(AGE_WITHOUT_TTL, |ttl| ttl.min(MAX_AGE))
}

fn lowest_ttl(reply: &[u8]) -> Option<u32> {
    let header = Header::read(reply)?;
    let rcode = Rcode(header.flags & 0x0F);
    if rcode != Rcode::NOERROR && rcode != Rcode::NXDOMAIN {
        return None;
    }
    let mut reader = Reader::new(reply);
    for _ in 0..header.counts[0] {
        reader.question().ok()?;
    }
    let answers = u32::from(header.counts[1]);
    let records = header.counts[1..].iter().map(|count| u32::from(*count));
    let mut lowest = None;
    for at in 0..records.sum() {
        let record = reader.record().ok()?;
        // The TTL field of an OPT record has another meaning (RFC 6891 section 6.1.3).
        if record.rtype == Type::OPT {
            continue;
        }
        let mut ttl = record.ttl;
        if record.rtype == Type::SOA && at >= answers {
            // The MINIMUM field is the last one (RFC 2308 section 5).
            let minimum = reply[..record.data_end].last_chunk::<4>();
            ttl = minimum.map_or(ttl, |bytes| ttl.min(u32::from_be_bytes(*bytes)));
        }
        lowest = Some(lowest.map_or(ttl, |lowest: u32| lowest.min(ttl)));
    }
    lowest
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn head(method: &str, uri: &str, content_type: Option<&str>) -> Parts {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_query_is_located_by_method_and_headers() {
        let body = |content_type| {
            let head = head("POST", "https://a/dns-query", content_type);
            locate_query(&head).map(|location| matches!(location, QueryLocation::Body))
        };
        assert_eq!(body(Some("application/dns-message")), Ok(true));
        assert_eq!(body(Some("Application/DNS-message; x=y")), Ok(true));
        assert_eq!(body(None), Ok(true));
        assert_eq!(body(Some("application/json")), Err(HttpError::OTHER_TYPE));
        let get = |query: &str| {
            let head = head("GET", &format!("/dns-query?{query}"), None);
            locate_query(&head).map(|location| match location {
                QueryLocation::Message(message) => message,
                QueryLocation::Body => panic!("a body"),
            })
        };
        assert_eq!(get("dns=AAECgw"), Ok(vec![0, 1, 2, 0x83]));
        assert_eq!(get("a=b&dns=__8"), Ok(vec![255, 255]));
        for bad in ["", "dns", "dn=AA", "dns=AAE=", "dns=A+A", "dns=AA&dns=AA"] {
            assert_eq!(get(bad), Err(HttpError::NO_MESSAGE), "{bad}");
        }
        let refused = |method, uri| locate_query(&head(method, uri, None)).err();
        assert_eq!(refused("GET", "/"), Some(HttpError::ELSEWHERE));
        assert_eq!(refused("POST", "/dns-query/"), Some(HttpError::ELSEWHERE));
        assert_eq!(refused("HEAD", "/dns-query?dns=AA"), Some(HttpError::HEAD));
        assert_eq!(refused("PUT", "/dns-query?dns=AA"), Some(HttpError::METHOD));
    }

    #[test]
    fn the_cache_lifetime_is_the_smallest_ttl() {
        /// A reply for `a.` with records of these TTLs, the last of them an OPT.
        fn reply(rcode: u8, ttls: &[u32]) -> Vec<u8> {
            let count = u8::try_from(ttls.len()).unwrap();
            let mut reply = vec![0, 0, 0x84, rcode, 0, 1, 0, count, 0, 0, 0, 1];
            reply.extend(b"\x01a\0\0\x01\0\x01");
            for ttl in ttls {
                reply.extend(b"\xC0\x0C\0\x01\0\x01");
                reply.extend(ttl.to_be_bytes());
                reply.extend([0, 4, 1, 2, 3, 4]);
            }
            reply.extend(b"\0\0\x29\x04\xD0\0\0\0\0\0\0");
            reply
        }
        for (rcode, ttls, age) in [
            (0, &[30, 7, 60][..], 7),
            (0, &[86_400], 3600),
            (0, &[0], 0),
            (3, &[30], 30),
            (0, &[], 5),
            (2, &[30], 5),
        ] {
            assert_eq!(freshness(&reply(rcode, ttls)), age, "{rcode} {ttls:?}");
        }
        // A CNAME record and an SOA record with a MINIMUM of 5: no data (RFC 2308 section 2.2).
        let mut denial = vec![0, 0, 0x84, 0, 0, 1, 0, 1, 0, 1, 0, 0];
        denial.extend(b"\x01a\0\0\x01\0\x01");
        denial.extend(b"\xC0\x0C\0\x05\0\x01\0\0\x02\x58\0\x03\x01b\0");
        denial.extend(b"\0\0\x06\0\x01\0\0\x02\x58\0\x16\0\0");
        denial.extend([[0, 0, 0, 9]; 4].concat());
        denial.extend([0, 0, 0, 5]);
        assert_eq!(freshness(&denial), 5);
        assert_eq!(freshness(b"short"), 5);
    }
}
