//! Rules about the EDNS options that a query takes along to upstreams.

use std::net::IpAddr;

use crate::{edns::Options, query::Query, reply::Reply};

/// A change of one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionRule {
    /// What is done.
    pub deed: Deed,
    /// The option's code.
    pub code: u16,
    /// What it says; of no matter where it is taken away.
    pub data: Source,
    /// Whether the reply is to look as if nothing had been done.
    pub reverts: bool,
}

/// What is done to an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Put in the place of the query's own, or added.
    Set,
    /// Added.
    Append,
    /// Put in the place of the query's own, where there is one.
    Replace,
    /// Taken away.
    Unset,
}

/// What an option says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Always this.
    Fixed(Box<[u8]>),
    /// Something of the query.
    Variable(Variable),
    /// The client's network, its address cut to so many bits.
    Subnet {
        /// Of an IPv4 address.
        v4: u8,
        /// Of an IPv6 address.
        v6: u8,
    },
}

/// Something of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The name, in presentation form.
    Name,
    /// The type, as two octets.
    Type,
    /// The client's address, as four or sixteen octets.
    ClientAddress,
    /// The client's port, as two octets.
    ClientPort,
    /// `udp` or `tcp`.
    Protocol,
    /// The address that was asked.
    ServerAddress,
    /// The port that was asked.
    ServerPort,
    /// What some plugin knows of the query under this label.
    Metadata(Box<str>),
}

/// What became of a query at a rule.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// There was nothing to apply it to, or nothing to say.
    Ignored,
    /// It was applied.
    Done,
    /// It was applied, and the reply is to look as if it had not been.
    Reverts(Revert),
}

/// What is to be done to the reply's options.
#[derive(Debug, PartialEq, Eq)]
pub enum Revert {
    /// Nobody asked for this one.
    Remove,
    /// It said this in the query.
    Restore(Box<[u8]>),
}

impl OptionRule {
    /// Applies the rule.
    pub fn ask(
        &self,
        query: &mut Query,
        metadata: &dyn Fn(&Query, &str) -> Option<String>,
    ) -> Outcome {
        if self.deed == Deed::Unset {
            query.options.remove(self.code);
            return Outcome::Done;
        }
        let Some(data) = self.data.of(query, metadata) else {
            return Outcome::Ignored;
        };
        // A client's NSID is not among the options: it is not the upstream's matter.
        let is_wanted_nsid =
            self.code == Options::NSID && query.edns.is_some_and(|edns| edns.wants_nsid);
        let own = query.options.get(self.code);
        let own = own.or(is_wanted_nsid.then_some(&[]));
        let revert = match (self.deed, own) {
            (Deed::Replace, None) => return Outcome::Ignored,
            (Deed::Set | Deed::Replace, Some(own)) => Revert::Restore(own.into()),
            // A rule that computes something leaves what is there alone.
            (Deed::Append, Some(_)) if !matches!(self.data, Source::Fixed(_)) => {
                return Outcome::Ignored;
            }
            // A sub-query comes by with what it had the first time.
            (Deed::Append, Some(own)) if *own == *data => return Outcome::Done,
            _ => Revert::Remove,
        };
        let is_put = match self.deed {
            Deed::Append => false,
            _ => query.options.replace(self.code, &data),
        };
        if !is_put && !query.options.push(self.code, &data) {
            // A client must not keep a rule from being followed by leaving no room.
            query.options.clear();
            query.options.push(self.code, &data);
        }
        if self.reverts {
            Outcome::Reverts(revert)
        } else {
            Outcome::Done
        }
    }

    /// Makes the reply's options look as if nothing had been done.
    pub fn amend(&self, revert: &Revert, reply: &mut Reply) {
        match revert {
            Revert::Remove => reply.options.remove(self.code),
            Revert::Restore(data) => {
                reply.options.replace(self.code, data);
            }
        }
    }
}

impl Source {
    fn of(
        &self,
        query: &Query,
        metadata: &dyn Fn(&Query, &str) -> Option<String>,
    ) -> Option<Box<[u8]>> {
        let client = query.client.ip().to_canonical();
        Some(match self {
            Self::Fixed(data) => data.clone(),
            Self::Subnet { v4, v6 } => subnet(client, *v4, *v6),
            Self::Variable(variable) => match variable {
                Variable::Name => query.question.name.to_string().into_bytes().into(),
                Variable::Type => query.question.rtype.0.to_be_bytes().into(),
                Variable::ClientAddress => octets(client),
                Variable::ServerAddress => octets(query.local.ip().to_canonical()),
                Variable::ClientPort => query.client.port().to_be_bytes().into(),
                Variable::ServerPort => query.local.port().to_be_bytes().into(),
                Variable::Protocol => query.transport.label().as_bytes().into(),
                Variable::Metadata(label) => {
                    let value = metadata(query, label)?;
                    if value.is_empty() {
                        return None;
                    }
                    value.into_bytes().into()
                }
            },
        })
    }
}

fn octets(address: IpAddr) -> Box<[u8]> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// Family, length, scope, and as many octets of the address as the length takes (RFC 7871 §6).
fn subnet(client: IpAddr, v4: u8, v6: u8) -> Box<[u8]> {
    let (family, length) = match client {
        IpAddr::V4(_) => (1, v4),
        IpAddr::V6(_) => (2, v6),
    };
    let network = ipnet::IpNet::new(client, length).map(|network| network.network());
    let address = octets(network.unwrap_or(client));
    let kept = usize::from(length).div_ceil(8);
    [&[0, family, length, 0], &address[..kept.min(address.len())]]
        .concat()
        .into()
}
