//! whoami: tells the client its own address, port and transport.
//!
//! Whatever is asked, the answer is empty and the additional section holds an address record of the
//! name that was asked for, and an SRV record under `_udp` or `_tcp` of it with the port.

use std::{net::IpAddr, sync::Arc};

use super::{Build, BuildError, Context, ParseErrors, Parsing, Plugin, Setup, Step};
use crate::{
    corefile::Directive,
    query::Query,
    reply::{Data, Owner, Reply, Section, Why},
    wire::{Name, Type},
};

/// The Corefile's word.
const NAME: &str = "whoami";

/// The plugin, which has no options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whoami;

/// Reads the directive, which takes nothing.
pub fn parse(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Whoami, ParseErrors> {
    let checked = uses[0].bare().map(|()| Whoami);
    checked.map_err(|error| vec![error])
}

impl Setup for Whoami {
    fn build(&self, _: &mut Build<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
        Ok(Arc::new(*self))
    }
}

impl Plugin for Whoami {
    fn name(&self) -> &'static str {
        NAME
    }

    fn ask(&self, _: &Context<'_>, query: &mut Query, reply: &mut Reply) -> Step {
        reply.authoritative = true;
        reply.why = Why::Synthesized;
        // A client of an IPv4 address may come to a socket of both families.
        let (rtype, address) = match query.client.ip().to_canonical() {
            IpAddr::V4(address) => (Type::A, Data::A(address)),
            IpAddr::V6(address) => (Type::AAAA, Data::Aaaa(address)),
        };
        reply.push(Section::Additional, Owner::Question, rtype, 0, address);
        let transport: &[u8] = match query.transport.label() {
            "udp" => b"_udp",
            _ => b"_tcp",
        };
        let asked = query.asked.name.as_ref();
        // The longest names have no room for another label; then the address must do.
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
        plugin::testing::{self, Place},
        query::Transport,
    };

    fn ask(name: &str, client: &str, transport: Transport) -> Vec<(String, Type, Vec<u8>)> {
        let mut query = testing::query(name, Type::TXT);
        query.client = client.parse::<SocketAddr>().unwrap();
        query.transport = transport;
        let mut reply = Reply::default();
        assert!(matches!(
            Whoami.ask(&Place::new(Vec::new()).context(), &mut query, &mut reply),
            Step::Answer
        ));
        assert!(reply.section(Section::Answer).is_empty() && reply.authoritative);
        let told = reply.section(Section::Additional).iter().map(|record| {
            let owner = match reply.owner(record) {
                Owner::Question => "asked".to_owned(),
                Owner::Name(name) => name.to_string(),
            };
            (owner, record.rtype, reply.data(record).to_vec())
        });
        told.collect()
    }

    #[test]
    fn a_client_learns_its_address_and_port() {
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
        let told = ask(".", "[2001:db8::1]:53", Transport::Tls);
        assert_eq!((told[0].1, told[1].0.as_str()), (Type::AAAA, "_tcp."));
        let mapped = ask(".", "[::ffff:192.0.2.1]:53", Transport::Udp);
        assert_eq!(mapped[0].1, Type::A);
        let longest = format!("{0}.{0}.{0}.{1}.", "a".repeat(63), "b".repeat(61));
        assert_eq!(ask(&longest, "192.0.2.1:1", Transport::Udp).len(), 1);
    }

    #[test]
    fn it_takes_nothing() {
        for (text, fits) in [
            ("whoami", true),
            ("whoami x", false),
            ("whoami {\na\n}", false),
        ] {
            assert_eq!(testing::read(text, ".", parse).is_ok(), fits, "{text}");
        }
    }
}
