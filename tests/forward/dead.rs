//! Failed health checks mark an upstream down, on every transport.

use lodestone::reply::Why;

use crate::{
    authority::Authority,
    served::Served,
    upstream::{Act, Upstream, answer_of},
};

const NAME: &str = "dns.example";

/// The upstream is down after failed checks, and up once it answers.
async fn goes_down_and_up(upstream: &Upstream, to: &str, options: &str) {
    let options = format!(
        "{options}\n read_timeout 500ms\n health_check 30ms\n failfast_all_unhealthy_upstreams"
    );
    let served = Served::new(&format!("forward . {to} {{\n {options}\n}}"));
    assert_eq!(answer_of(&served.ask("first.example").await), 1, "{to}");
    upstream.now(|_| vec![]);
    let reply = served.ask("a.example").await;
    assert_eq!(reply.why, Why::UpstreamTimeout, "{to}: not down yet");
    let label = to.split('%').next().unwrap_or_default();
    let begun = std::time::Instant::now();
    while served.ask("b.example").await.why != Why::UpstreamsDown {
        assert!(begun.elapsed().as_secs() < 10, "{label} is never down");
    }
    upstream.now(|_| vec![Act::Answer(1)]);
    let begun = std::time::Instant::now();
    while served.ask("c.example").await.why != Why::Upstream {
        assert!(begun.elapsed().as_secs() < 10, "{label} is never up");
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn over_udp_and_tcp() {
    for options in ["", "force_tcp", "prefer_udp"] {
        let upstream = Upstream::answering(1).await;
        goes_down_and_up(&upstream, &upstream.address.to_string(), options).await;
    }
}

#[tokio::test]
async fn over_tls() {
    let authority = Authority::new();
    let acceptor = authority.acceptor(NAME, false);
    let upstream = Upstream::start_tls(acceptor, |_| vec![Act::Answer(1)]).await;
    let address = upstream.address;
    let to = format!("tls://{}%{NAME}:{}", address.ip(), address.port());
    let options = format!("tls {}", authority.path("ca.pem"));
    goes_down_and_up(&upstream, &to, &options).await;
}

#[tokio::test]
async fn over_https() {
    let authority = Authority::new();
    let tls = authority.speaking(NAME, b"h2");
    let upstream = Upstream::start_https(tls, |_| vec![Act::Answer(1)]).await;
    let to = format!("https://{}", upstream.address);
    let options = format!("tls {}\n tls_servername {NAME}", authority.path("ca.pem"));
    goes_down_and_up(&upstream, &to, &options).await;
}

#[tokio::test]
async fn over_quic() {
    let authority = Authority::new();
    let upstream = Upstream::start_quic(authority.speaking(NAME, b"doq"), |_| vec![Act::Answer(1)]);
    let address = upstream.address;
    let to = format!("quic://{}%{NAME}:{}", address.ip(), address.port());
    let options = format!("tls {}", authority.path("ca.pem"));
    goes_down_and_up(&upstream, &to, &options).await;
}
