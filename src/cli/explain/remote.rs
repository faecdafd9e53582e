//! Explains how a name is resolved by a server that can only be queried: any DNS server, from outside.
//!
//! The walk is then the search list, the replies, and their reasons, if the server sends extended DNS errors
//! (RFC 8914).

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{RecordType, rdata::opt::EdnsCode},
};

use crate::{
    cli::dig::exchange::{Failed, Path, Received, Stream, by_udp, cause, is_truncated},
    explain::{
        ExplainRequest, Explained, Explanation, NDOTS, Reason, RequestError, WalkStep, expand,
        micros,
    },
    upstream::{read_options, read_search},
    wire::{Name, Type},
};

/// Timeout of each query, as of the resolvers of pods.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Queries by UDP that are sent before the server is given up.
const ATTEMPTS: usize = 2;
/// UDP payload size that is advertised (RFC 9715).
const PAYLOAD: u16 = 1232;

/// Why a query could not be sent, or its reply not be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages describe them
pub enum RemoteError {
    #[error("{0}")]
    Request(#[from] RequestError),
    #[error("'{0}' is no address; use ADDRESS, ADDRESS:PORT or [ADDRESS]:PORT")]
    Address(String),
    #[error("'{0}' is no domain name")]
    Domain(String),
}

/// Parses the address of a server; the port is 53 if there is none.
///
/// # Errors
/// It is no address.
pub fn address(text: &str) -> Result<SocketAddr, RemoteError> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let address: IpAddr = text
        .parse()
        .map_err(|_| RemoteError::Address(text.to_owned()))?;
    Ok((address, 53).into())
}

/// The search list of a client.
#[derive(Clone, Debug, Default)]
pub struct SearchList {
    /// Its domains.
    pub domains: Vec<Name>,
    /// Names with fewer dots are tried with the domains first.
    pub ndots: usize,
}

impl SearchList {
    /// That of a pod (Kubernetes documentation, "DNS for Services and Pods").
    ///
    /// # Errors
    /// Namespace or domain are no names.
    pub fn of_namespace(namespace: &str, domain: &str) -> Result<Self, RemoteError> {
        let domain = domain.trim_end_matches('.');
        let domains = [
            format!("{namespace}.svc.{domain}."),
            format!("svc.{domain}."),
            format!("{domain}."),
        ];
        let names = domains.iter().map(|text| {
            let name = Name::parse(text);
            name.map_err(|_| RemoteError::Domain(text.clone()))
        });
        Ok(Self {
            domains: names.collect::<Result<_, _>>()?,
            ndots: NDOTS,
        })
    }

    /// That of a resolv.conf; without `ndots`, names with a dot are tried as they are first (resolv.conf(5)).
    pub fn of_file(path: &std::path::Path) -> Self {
        let options = read_options(path).unwrap_or_default();
        let ndots = options
            .iter()
            .rev()
            .find_map(|word| word.strip_prefix("ndots:")?.parse().ok());
        Self {
            domains: read_search(path).unwrap_or_default(),
            ndots: ndots.unwrap_or(1),
        }
    }
}

/// Queries the server for each expansion of the name, until one has an answer.
///
/// # Errors
/// The request names no domain name or type.
pub fn explain(
    server: SocketAddr,
    search: &SearchList,
    request: &ExplainRequest,
) -> Result<Explanation, RemoteError> {
    let rtype: Type = request
        .rtype
        .to_ascii_uppercase()
        .parse()
        .map_err(|_| RequestError::Type(request.rtype.clone()))?;
    let SearchList { domains, ndots } = search;
    let mut explanation = Explanation {
        name: request.name.clone(),
        rtype: rtype.to_string(),
        search: domains.iter().map(ToString::to_string).collect(),
        ndots: *ndots,
        queries: Vec::new(),
        answered: false,
    };
    for name in expand(&request.name, domains, *ndots)? {
        let explained = query(server, &name, rtype);
        explanation.answered = explained.rcode == "NOERROR" && !explained.answer.is_empty();
        explanation.queries.push(explained);
        if explanation.answered {
            break;
        }
    }
    Ok(explanation)
}

fn query(server: SocketAddr, name: &Name, rtype: Type) -> Explained {
    let mut explained = Explained {
        name: name.to_string(),
        rcode: "no reply".to_owned(),
        answer: Vec::new(),
        reason: None,
        object: None,
        caution: None,
        took_us: 0,
        steps: Vec::new(),
    };
    let Some(message) = message(name, rtype) else {
        return explained;
    };
    let path = Path {
        server,
        source: None,
        timeout: TIMEOUT,
    };
    let mut at_us = 0;
    let step = |at_us, action: String| WalkStep {
        at_us,
        depth: 0,
        plugin: "client".to_owned(),
        action,
    };
    for attempt in 1..=ATTEMPTS {
        let steps = &mut explained.steps;
        steps.push(step(
            at_us,
            format!("asks {server} by UDP, attempt {attempt}"),
        ));
        let mut received = by_udp(&path, &message);
        if let Ok(reply) = &received
            && is_truncated(&reply.message)
        {
            steps.push(step(
                at_us + micros(reply.took),
                "the reply is truncated; asks by TCP".into(),
            ));
            received = Stream::open(&path, &message).and_then(|mut stream| stream.next());
        }
        match received {
            Ok(reply) => {
                at_us += micros(reply.took);
                let text = read(&reply, &mut explained);
                explained.steps.push(step(at_us, text));
                break;
            }
            Err(Failed::Connect(error) | Failed::Reply { error, .. }) => {
                if error.kind() == std::io::ErrorKind::WouldBlock {
                    at_us += micros(TIMEOUT);
                }
                steps.push(step(at_us, cause(&error)));
            }
        }
    }
    explained.took_us = at_us;
    explained
}

fn message(name: &Name, rtype: Type) -> Option<Vec<u8>> {
    let name = hickory_proto::rr::Name::from_ascii(name.to_string()).ok()?;
    let mut message = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, RecordType::from(rtype.0)));
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD);
    message.set_edns(edns);
    message.to_vec().ok()
}

/// Reads the reply into `explained`; returns its summary.
fn read(reply: &Received, explained: &mut Explained) -> String {
    let message = match Message::from_vec(&reply.message) {
        Ok(message) => message,
        Err(error) => return format!("the reply is malformed: {error}"),
    };
    let metadata = &message.metadata;
    explained.rcode = crate::wire::Rcode(metadata.response_code.into()).to_string();
    explained.answer = message.answers.iter().map(ToString::to_string).collect();
    let edns = message.edns.as_ref();
    let error = edns.and_then(|edns| edns.option(EdnsCode::Unknown(15)));
    let bytes: Vec<u8> = error
        .and_then(|error| error.try_into().ok())
        .unwrap_or_default();
    if let Some((code, text)) = bytes.split_first_chunk::<2>() {
        let code = u16::from_be_bytes(*code);
        explained.reason = Some(Reason {
            name: "extended-error".to_owned(),
            code,
            text: String::from_utf8_lossy(text).into_owned(),
        });
    }
    let authority = if metadata.authoritative {
        "authoritative"
    } else {
        "not authoritative"
    };
    let count = message.answers.len();
    format!("receives {}, {count} records, {authority}", explained.rcode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_may_have_a_port() {
        let parsed = |text| address(text).unwrap().to_string();
        assert_eq!(parsed("10.96.0.10"), "10.96.0.10:53");
        assert_eq!(parsed("127.0.0.1:1053"), "127.0.0.1:1053");
        assert_eq!(parsed("fd00::a"), "[fd00::a]:53");
        assert_eq!(parsed("[::1]:1053"), "[::1]:1053");
        assert!(address("kube-dns").is_err());
    }
}
