use std::pin::Pin;

use super::*;
use crate::{
    plugin::testing::{self, TestBlock},
    reply::Soa,
    wire::Name,
};

/// A server whose names encode the records that they have.
struct Server;

impl SubQueryHandler for Server {
    fn answer(self: Arc<Self>, query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        assert!(query.bypass.translation);
        let mut reply = Reply::default();
        let name = query.question.lower.to_string();
        let root = Name::ROOT;
        match (query.question.rtype, name.split('.').next()) {
            (_, Some("gone")) => reply.rcode = Rcode::NXDOMAIN,
            (Type::A, Some("refused")) => reply.fail(Rcode::REFUSED, Why::Upstream),
            (Type::A, Some("denied")) => {
                reply.rcode = Rcode::NXDOMAIN;
                reply.authentic = true;
            }
            (Type::A, Some("dropped")) => reply.fail(Rcode::SERVFAIL, Why::Policy),
            (Type::A, Some("silent" | "silent-six")) | (Type::AAAA, Some("late")) => {
                reply.fail(Rcode::SERVFAIL, Why::UpstreamTimeout);
            }
            (_, Some("broken")) => reply.fail(Rcode::SERVFAIL, Why::UpstreamTimeout),
            (Type::AAAA, Some("six" | "both" | "silent-six")) => {
                reply.answer(Type::AAAA, 30, Data::Aaaa(Ipv6Addr::LOCALHOST));
            }
            (Type::AAAA, Some("mapped" | "mapped-alone")) => {
                let mapped = std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped();
                reply.answer(Type::AAAA, 30, Data::Aaaa(mapped));
            }
            (Type::A, Some("four" | "both" | "signed" | "mapped")) => {
                let alias = Data::Name(root.as_ref());
                reply.answer(Type::CNAME, 900, alias);
                let owner = Owner::Name(root.as_ref());
                let address = Data::A([192, 0, 2, 33].into());
                reply.push(Section::Answer, owner, Type::A, 900, address);
                reply.authentic = true;
            }
            (Type::AAAA, Some("signed")) => {
                let soa = Data::Soa(Soa {
                    primary: root.as_ref(),
                    mailbox: root.as_ref(),
                    serial: 1,
                    refresh: 1,
                    retry: 1,
                    expire: 1,
                    minimum: 1,
                });
                reply.push(Section::Authority, Owner::Question, Type::SOA, 60, soa);
            }
            _ => {}
        }
        Box::pin(std::future::ready(reply))
    }
}

/// The code and the records of the answer, and the number of translated queries.
fn ask(text: &str, name: &str, rtype: Type, client: &str) -> String {
    let (config, _) = testing::read(text, ".", parse).unwrap();
    let plugin = Dns64 {
        config,
        runtime: Handle::current(),
        translated: Arc::default(),
    };
    let test_block = TestBlock::new(Vec::new());
    let sub_queries: Arc<dyn SubQueryHandler> = Arc::new(Server);
    let context = Context {
        sub_queries: &sub_queries,
        block: &test_block.block,
    };
    let mut query = testing::query(name, rtype);
    query.receive(|it| it.client = (client.parse::<std::net::IpAddr>().unwrap(), 4000).into());
    let mut reply = Reply::default();
    match plugin.on_query(&context, &mut query, &mut reply) {
        Step::Answer => {}
        _ => return "pass".to_owned(),
    }
    assert!(!reply.authentic);
    let mut words = vec![reply.rcode.to_string()];
    for record in reply.section(Section::Answer) {
        words.push(format!("{} {}", record.ttl, record.rtype));
        if let Ok(bytes) = <[u8; 16]>::try_from(reply.data(record)) {
            words.push(Ipv6Addr::from(bytes).to_string());
        }
    }
    format!("{} {}", words.join(" "), plugin.translated.get())
}

#[tokio::test]
async fn names_without_an_address_of_ipv6_get_one() {
    const CLIENT: &str = "2001:db8::1";
    for (text, name, client, wanted) in [
        (
            "dns64",
            "four",
            CLIENT,
            "NOERROR 900 CNAME 600 AAAA 64:ff9b::c000:221 1",
        ),
        (
            "dns64",
            "signed",
            CLIENT,
            "NOERROR 900 CNAME 60 AAAA 64:ff9b::c000:221 1",
        ),
        ("dns64", "six", CLIENT, "NOERROR 30 AAAA ::1 0"),
        ("dns64", "both", CLIENT, "NOERROR 30 AAAA ::1 0"),
        ("dns64", "neither", CLIENT, "NOERROR 0"),
        ("dns64", "gone", CLIENT, "NXDOMAIN 0"),
        ("dns64", "broken", CLIENT, "SERVFAIL 0"),
        // A failed lookup for A records is not reported as NODATA.
        ("dns64", "refused", CLIENT, "REFUSED 0"),
        ("dns64", "denied", CLIENT, "NXDOMAIN 0"),
        ("dns64", "dropped", CLIENT, "SERVFAIL 0"),
        ("dns64", "silent", CLIENT, "SERVFAIL 0"),
        ("dns64", "silent-six", CLIENT, "NOERROR 30 AAAA ::1 0"),
        (
            "dns64 {\ntranslate_all\n}",
            "silent-six",
            CLIENT,
            "SERVFAIL 0",
        ),
        ("dns64", "late", CLIENT, "SERVFAIL 0"),
        (
            "dns64",
            "mapped",
            CLIENT,
            "NOERROR 900 CNAME 600 AAAA 64:ff9b::c000:221 1",
        ),
        (
            "dns64",
            "mapped-alone",
            CLIENT,
            "NOERROR 30 AAAA ::ffff:192.0.2.1 0",
        ),
        ("dns64", "four", "192.0.2.1", "pass"),
        ("dns64", "four", "::ffff:192.0.2.1", "pass"),
        (
            "dns64 {\nallow_ipv4\nprefix 2001:db8::/32\n}",
            "four",
            "192.0.2.1",
            "NOERROR 900 CNAME 600 AAAA 2001:db8:c000:221:: 1",
        ),
        (
            "dns64 2001:db8::/96 {\ntranslate_all\n}",
            "both",
            CLIENT,
            "NOERROR 900 CNAME 600 AAAA 2001:db8::c000:221 1",
        ),
        (
            "dns64 {\ntranslate_all\n}",
            "six",
            CLIENT,
            "NOERROR 30 AAAA ::1 0",
        ),
    ] {
        assert_eq!(ask(text, name, Type::AAAA, client), wanted, "{text} {name}");
    }
    assert_eq!(ask("dns64", "four", Type::A, CLIENT), "pass");
}

#[tokio::test]
async fn a_client_that_validates_gets_what_there_is() {
    let (config, _) = testing::read("dns64", ".", parse).unwrap();
    let plugin = Dns64 {
        config,
        runtime: Handle::current(),
        translated: Arc::default(),
    };
    let test_block = TestBlock::new(Vec::new());
    let sub_queries: Arc<dyn SubQueryHandler> = Arc::new(Server);
    let context = Context {
        sub_queries: &sub_queries,
        block: &test_block.block,
    };
    for (checking_disabled, dnssec_ok, passes) in [
        (true, true, true),
        (true, false, false),
        (false, true, false),
    ] {
        let mut query = testing::query("four", Type::AAAA);
        query.receive(|it| it.client = "[2001:db8::1]:4000".parse().unwrap());
        query.receive(|it| it.checking_disabled = checking_disabled);
        query.receive(|it| {
            it.edns = Some(crate::query::Edns {
                udp_payload: 1232,
                version: 0,
                dnssec_ok,
                wants_nsid: false,
                is_padded: false,
            });
        });
        let step = plugin.on_query(&context, &mut query, &mut Reply::default());
        assert_eq!(matches!(step, Step::Pass), passes, "{step:?}");
    }
}

#[test]
fn addresses_are_embedded_as_in_rfc_6052() {
    // The table of RFC 6052 section 2.4.
    for (prefix, wanted) in [
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
    ] {
        let made = embed(prefix.parse().unwrap(), [192, 0, 2, 33]);
        assert_eq!(made, wanted.parse::<Ipv6Addr>().unwrap(), "{prefix}");
    }
}

#[test]
fn errors_name_the_expected_words() {
    for (text, words) in [
        ("dns64 64:ff9b::/95", "a length of 32, 40, 48, 56, 64 or 96"),
        ("dns64 64:ff9b::/24", "a length of 32, 40, 48, 56, 64 or 96"),
        (
            "dns64 2001:db8::/72",
            "a length of 32, 40, 48, 56, 64 or 96",
        ),
        (
            "dns64 2001:db8::/80",
            "a length of 32, 40, 48, 56, 64 or 96",
        ),
        (
            "dns64 {\nprefix 2001:db8::/88\n}",
            "a length of 32, 40, 48, 56, 64 or 96",
        ),
        ("dns64 192.0.2.0/24", "one of IPv4"),
        ("dns64 64:ff9b::", "write 64:ff9b::/128"),
        ("dns64 64:ff9b::/96 x", "takes one argument"),
        ("dns64 {\nprefix\n}", "a prefix such as"),
        ("dns64 {\ntranslate\n}", "unknown property"),
        ("dns64 {\nallow_ipv4 yes\n}", "takes no argument"),
    ] {
        let error = testing::read(text, ".", parse);
        let error = error.unwrap_err();
        assert!(error.contains(words), "{text}: {error}");
    }
}
