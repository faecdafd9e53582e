use std::{pin::Pin, sync::Arc};

use super::*;
use crate::{
    plugin::{
        SubQueryHandler,
        testing::{self, TestBlock},
    },
    reply::{Data, Soa},
};

/// A server that gives the same response to every question.
struct Server(Reply);

impl SubQueryHandler for Server {
    fn answer(self: Arc<Self>, query: Query) -> Pin<Box<dyn Future<Output = Reply> + Send>> {
        assert_eq!(query.question.lower.to_string(), "target.example.");
        assert_eq!(query.question.rtype, Type::AAAA);
        Box::pin(std::future::ready(self.0.clone()))
    }
}

fn found(rcode: Rcode, why: Why) -> Reply {
    Reply::failure(rcode, why)
}

fn with_soa(mut reply: Reply) -> Reply {
    let zone = Name::parse("example").unwrap();
    let soa = Data::Soa(Soa {
        primary: zone.as_ref(),
        mailbox: zone.as_ref(),
        serial: 1,
        refresh: 2,
        retry: 3,
        expire: 4,
        minimum: 5,
    });
    let owner = Owner::Name(zone.as_ref());
    reply.push(Section::Authority, owner, Type::SOA, 5, soa);
    reply
}

fn with(mut reply: Reply, rtype: Type, data: Data<'_>) -> Reply {
    reply.answer(rtype, 5, data);
    reply
}

#[tokio::test]
async fn a_chain_ends_as_its_last_name_does() {
    let other = Name::parse("other.example").unwrap();
    let alias = Data::Name(other.as_ref());
    let address = Data::Aaaa(std::net::Ipv6Addr::LOCALHOST);
    let upstream = |rcode| found(rcode, Why::Upstream);
    for (response, wanted) in [
        (
            with(upstream(Rcode::NOERROR), Type::AAAA, address),
            "NOERROR ZoneRecord CNAME AAAA /",
        ),
        (
            with_soa(with(upstream(Rcode::NOERROR), Type::AAAA, address)),
            "NOERROR ZoneRecord CNAME AAAA /",
        ),
        (
            with_soa(upstream(Rcode::NOERROR)),
            "NOERROR ZoneRecord CNAME / SOA",
        ),
        (
            with_soa(with(upstream(Rcode::NOERROR), Type::CNAME, alias)),
            "NOERROR ZoneRecord CNAME CNAME / SOA",
        ),
        (
            with_soa(upstream(Rcode::NXDOMAIN)),
            "NXDOMAIN ZoneRecord CNAME / SOA",
        ),
        (
            with_soa(with(upstream(Rcode::NXDOMAIN), Type::CNAME, alias)),
            "NXDOMAIN ZoneRecord CNAME CNAME / SOA",
        ),
        (
            found(Rcode::SERVFAIL, Why::UpstreamTimeout),
            "SERVFAIL UpstreamTimeout CNAME /",
        ),
        (upstream(Rcode::REFUSED), "REFUSED Upstream CNAME /"),
        (
            found(Rcode::SERVFAIL, Why::TooDeep),
            "SERVFAIL TooDeep CNAME /",
        ),
        (
            found(Rcode::REFUSED, Why::NoZone),
            "NOERROR ZoneRecord CNAME /",
        ),
        (
            found(Rcode::SERVFAIL, Why::NoPluginAnswered),
            "NOERROR ZoneRecord CNAME /",
        ),
    ] {
        let case = format!("{response:?}");
        let test_block = TestBlock::new(Vec::new());
        let sub_queries: Arc<dyn SubQueryHandler> = Arc::new(Server(response));
        let context = Context {
            sub_queries: &sub_queries,
            block: &test_block.block,
        };
        let target = Name::parse("target.example").unwrap();
        let mut reply = Reply::failure(Rcode::NOERROR, Why::ZoneRecord);
        reply.authoritative = true;
        reply.answer(Type::CNAME, 5, Data::Name(target.as_ref()));
        let query = testing::query("alias.test", Type::AAAA);
        let pending = follow(&context, &query, target, &mut reply, |_| {});
        let Resolved::Answer(reply) = pending.await else {
            panic!("no answer: {case}");
        };
        assert!(reply.authoritative);
        let types = |section| {
            let records = reply.section(section).iter();
            records
                .map(|record| record.rtype.to_string())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let (answer, authority) = (types(Section::Answer), types(Section::Authority));
        let text = format!("{} {:?} {answer} / {authority}", reply.rcode, reply.why);
        assert_eq!(text.trim_end(), wanted, "{case}");
    }
}
