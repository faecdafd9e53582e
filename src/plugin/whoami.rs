//! `whoami`: returns the client's address, port and transport.
//!
//! For every question the answer section is empty, and the additional section has an address record
//! with the question's name as owner, and an SRV record with the port, under `_udp` or `_tcp` of
//! that name.

use std::net::IpAddr;

use super::{Build, BuildError, Context, OnQuery, ParseErrors, Parsing, Plugin, Setup, Step};
use crate::{
    corefile::Directive,
    hooks,
    query::Query,
    reply::{Data, Owner, Reply, Section, Why},
    wire::{Name, Type},
};

/// The directive's name.
const NAME: &str = "whoami";

/// The plugin, which has no options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whoami;

/// Parses the directive, which has no arguments.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Whoami, ParseErrors> {
    let checked = uses[0].bare().map(|()| Whoami);
    checked.map_err(|error| vec![error])
}

impl Setup for Whoami {
    fn build(&self, _: &mut Build<'_>) -> Result<Plugin, BuildError> {
        Ok(Plugin::from(*self))
    }
}

hooks!(Whoami, NAME => on_query);

impl OnQuery for Whoami {
    fn on_query(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        reply.authoritative = true;
        reply.why = Why::Synthesized;
        // A dual-stack socket has IPv4 clients as IPv4-mapped addresses.
        let (rtype, address) = match query.client.ip().to_canonical() {
            IpAddr::V4(address) => (Type::A, Data::A(address)),
            IpAddr::V6(address) => (Type::AAAA, Data::Aaaa(address)),
        };
        reply.push(Section::Additional, Owner::Question, rtype, 0, address);
        let transport: &[u8] = match query.transport.label() {
            "udp" => b"_udp",
            _ => b"_tcp",
        };
        let asked = query.original.name.as_ref();
        // If the name would exceed 255 bytes (RFC 1035 section 2.3.4), the SRV record is omitted.
        if let Ok(owner) = Name::from_labels([transport], asked) {
            let port = Data::Srv {
                priority: 0,
                weight: 0,
                port: query.client.port(),
                target: Name::ROOT.as_ref(),
            };
            let owner = Owner::Name(owner.as_ref());
            reply.push(Section::Additional, owner, Type::SRV, 0, port);
        }
        Step::Answer
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{
        plugin::testing::{self, TestBlock},
        query::Transport,
    };

    fn ask(name: &str, client: &str, transport: Transport) -> Vec<(String, Type, Vec<u8>)> {
        let mut query = testing::query(name, Type::TXT);
        query.receive(|it| it.client = client.parse::<SocketAddr>().unwrap());
        query.receive(|it| it.transport = transport);
        let mut reply = Reply::default();
        assert!(matches!(
            Whoami.on_query(
                &TestBlock::new(Vec::new()).context(),
                &mut query,
                &mut reply
            ),
            Step::Answer
        ));
        assert!(reply.section(Section::Answer).is_empty() && reply.authoritative);
        let records = reply.section(Section::Additional).iter().map(|record| {
            let owner = match reply.owner(record) {
                Owner::Question => "asked".to_owned(),
                Owner::Name(name) => name.to_string(),
            };
            (owner, record.rtype, reply.data(record).to_vec())
        });
        records.collect()
    }

    #[test]
    fn the_address_and_port_of_the_client_are_returned() {
        assert_eq!(
            ask("Example.org", "192.0.2.1:4660", Transport::Udp),
            [
                ("asked".to_owned(), Type::A, vec![192, 0, 2, 1]),
                (
                    "_udp.Example.org.".to_owned(),
                    Type::SRV,
                    vec![0, 0, 0, 0, 0x12, 0x34, 0]
                ),
            ]
        );
        let tls = ask(".", "[2001:db8::1]:53", Transport::Tls);
        assert_eq!((tls[0].1, tls[1].0.as_str()), (Type::AAAA, "_tcp."));
        let mapped = ask(".", "[::ffff:192.0.2.1]:53", Transport::Udp);
        assert_eq!(mapped[0].1, Type::A);
        let longest = format!("{0}.{0}.{0}.{1}.", "a".repeat(63), "b".repeat(61));
        assert_eq!(ask(&longest, "192.0.2.1:1", Transport::Udp).len(), 1);
    }

    #[test]
    fn it_has_no_arguments() {
        for (text, fits) in [
            ("whoami", true),
            ("whoami x", false),
            ("whoami {\na\n}", false),
        ] {
            assert_eq!(testing::read(text, ".", parse).is_ok(), fits, "{text}");
        }
    }
}
