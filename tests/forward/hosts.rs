//! Upstreams given by host name, resolved at start.

use lodestone::{reply::Why, wire::Rcode};

use crate::{
    authority::Authority,
    served::Served,
    upstream::{Act, Asked, Upstream, answer_of},
};

/// A name server that answers every name with 127.0.0.1.
fn knows_loopback(asked: &Asked) -> Vec<Act> {
    let mut bytes = vec![0, 0, 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0];
    bytes.extend(asked.question.name.as_wire());
    bytes.extend(asked.question.rtype.0.to_be_bytes());
    bytes.extend([0, 1]);
    if asked.question.rtype == lodestone::wire::Type::A {
        bytes[7] = 1;
        bytes.extend([0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
    }
    vec![Act::Octets(bytes)]
}

#[tokio::test]
async fn resolvers_are_tried_in_order() {
    let broken = Upstream::start(|_| vec![Act::Code(Rcode::REFUSED)]).await;
    let resolver = Upstream::start(knows_loopback).await;
    let upstream = Upstream::answering(1).await;
    let port = upstream.address.port();
    let served = Served::new(&format!(
        "forward . dns.example:{port} {{\n resolver {} {}\n}}",
        broken.address, resolver.address
    ));
    let served = served.started().await;
    assert_eq!(answer_of(&served.ask("a.example").await), 1);
    assert_eq!((broken.asked().len(), resolver.asked().len()), (2, 2));
    assert_eq!(
        resolver.asked()[0].question.name.to_string(),
        "dns.example."
    );
    assert_eq!(answer_of(&served.ask("b.example").await), 1);
    assert_eq!(resolver.asked().len(), 2, "once");
}

#[tokio::test]
async fn without_resolver_the_system_resolves() {
    let upstream = Upstream::answering(1).await;
    let port = upstream.address.port();
    let served = Served::new(&format!("forward . localhost:{port}"));
    let served = served.started().await;
    assert_eq!(answer_of(&served.ask("a.example").await), 1);
}

#[tokio::test]
async fn certificate_must_be_for_the_host_name() {
    let authority = Authority::new();
    let resolver = Upstream::start(knows_loopback).await;
    let tls = authority.speaking("dns.example", b"h2");
    let upstream = Upstream::start_https(tls, |_| vec![Act::Answer(1)]).await;
    let (port, ca) = (upstream.address.port(), authority.path("ca.pem"));
    for (name, proven) in [("dns.example", true), ("other.example", false)] {
        let served = Served::new(&format!(
            "forward . https://{name}:{port} {{\n tls {ca}\n resolver {}\n}}",
            resolver.address
        ));
        let reply = served.started().await.ask("a.example").await;
        assert_eq!(reply.rcode == Rcode::NOERROR, proven, "{:?}", reply.cause);
    }
}

#[tokio::test]
async fn tls_servername_takes_precedence_over_the_host_name() {
    let authority = Authority::new();
    let resolver = Upstream::start(knows_loopback).await;
    let answers = |_: &Asked| vec![Act::Answer(1)];
    let tls = |protocol| authority.speaking("dns.example", protocol);
    let upstreams = [
        (
            "tls",
            Upstream::start_tls(tls(b"dot").into(), answers).await,
        ),
        ("https", Upstream::start_https(tls(b"h2"), answers).await),
        ("quic", Upstream::start_quic(tls(b"doq"), answers)),
    ];
    let ca = authority.path("ca.pem");
    for (scheme, upstream) in upstreams {
        let port = upstream.address.port();
        for (name, proven) in [("dns.example", true), ("doh.test", false)] {
            let served = Served::new(&format!(
                "forward . {scheme}://doh.test:{port} {{\n tls {ca}\n resolver {}\n \
                 tls_servername {name}\n}}",
                resolver.address
            ));
            let reply = served.started().await.ask("a.example").await;
            let is_good = reply.rcode == Rcode::NOERROR;
            assert_eq!(is_good, proven, "{scheme} {name}: {:?}", reply.cause);
        }
    }
}

#[tokio::test]
async fn self_signed_certificate_is_trusted_if_configured_as_ca() {
    let (authority, other) = (Authority::new(), Authority::new());
    let answers = |_: &Asked| vec![Act::Answer(1)];
    let tls = |protocol| authority.self_signed("dns.example", protocol);
    for scheme in ["tls", "https", "quic"] {
        let upstream = match scheme {
            "tls" => Upstream::start_tls(tls(b"dot").into(), answers).await,
            "https" => Upstream::start_https(tls(b"h2"), answers).await,
            _ => Upstream::start_quic(tls(b"doq"), answers),
        };
        other.self_signed("dns.example", b"");
        for (ca, name, trusted) in [
            (authority.path("self.pem"), "dns.example", true),
            (authority.path("self.pem"), "other.example", false),
            (other.path("self.pem"), "dns.example", false),
        ] {
            let served = Served::new(&format!(
                "forward . {scheme}://{} {{\n tls {ca}\n tls_servername {name}\n}}",
                upstream.address
            ));
            let reply = served.ask("a.example").await;
            let is_good = reply.rcode == Rcode::NOERROR;
            assert_eq!(is_good, trusted, "{scheme} {name}: {:?}", reply.cause);
        }
    }
}

#[tokio::test]
async fn failed_lookup_is_retried_while_other_upstreams_answer() {
    let resolver = Upstream::start(|_| vec![Act::Code(Rcode::SERVFAIL)]).await;
    let upstream = Upstream::answering(1).await;
    let port = upstream.address.port();
    let resolvers = format!("resolver {}", resolver.address);
    let alone = Served::new(&format!(
        "forward . dns.example:{port} {{\n {resolvers}\n}}"
    ));
    let reply = alone.ask("a.example").await;
    assert_eq!(
        (reply.rcode, reply.why),
        (Rcode::SERVFAIL, Why::UpstreamUnreachable)
    );
    assert!(reply.cause.unwrap().contains("no address"));

    let other = Upstream::answering(2).await;
    let both = Served::new(&format!(
        "forward . dns.example:{port} {} {{\n {resolvers}\n}}",
        other.address
    ));
    assert_eq!(answer_of(&both.ask("a.example").await), 2);

    resolver.now(knows_loopback);
    let alone = alone.started().await;
    assert_eq!(answer_of(&alone.ask("a.example").await), 1);
}
