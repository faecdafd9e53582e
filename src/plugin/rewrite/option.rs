//! Rules for the EDNS options that are forwarded with a query.

use std::net::IpAddr;

use crate::{edns::Options, query::Query, reply::Reply};

/// A change of one option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionRule {
    /// The operation.
    pub operation: Operation,
    /// The option's code.
    pub code: u16,
    /// Its data; unused when it is removed.
    pub data: OptionSource,
    /// Whether the change is reverted in the reply (`revert`).
    pub reverts: bool,
}

/// An operation on an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Replaces the query's option, or adds one.
    Set,
    /// Adds an option.
    Append,
    /// Replaces the query's option, if it has one.
    Replace,
    /// Removes the option.
    Unset,
}

/// The data of an option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OptionSource {
    /// Fixed data.
    Fixed(Box<[u8]>),
    /// A property of the query.
    Variable(Variable),
    /// The client's network, with these prefix lengths (RFC 7871 section 6).
    Subnet {
        /// Prefix length for IPv4.
        v4: u8,
        /// Prefix length for IPv6.
        v6: u8,
    },
}

/// A property of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// The name, in presentation format.
    Name,
    /// The type, as two bytes.
    Type,
    /// The client's address, as 4 or 16 bytes.
    ClientAddress,
    /// The client's port, as two bytes.
    ClientPort,
    /// `udp` or `tcp`.
    Protocol,
    /// The local address that received the query, as 4 or 16 bytes.
    ServerAddress,
    /// The local port that received the query, as two bytes.
    ServerPort,
    /// The value of this metadata label.
    Metadata(Box<str>),
}

/// The outcome of a rule for a query.
#[derive(Debug, PartialEq, Eq)]
pub enum OptionOutcome {
    /// The rule does not apply, or has no data.
    Ignored,
    /// The rule was applied.
    Done,
    /// The rule was applied, and has to be reverted in the reply.
    Reverts(Revert),
}

/// How an option is reverted in the reply.
#[derive(Debug, PartialEq, Eq)]
pub enum Revert {
    /// Removes the option: the client did not send it.
    Remove,
    /// Restores the data that the client sent.
    Restore(Box<[u8]>),
}

impl OptionRule {
    /// Applies the rule.
    pub fn apply(
        &self,
        query: &mut Query,
        metadata: &dyn Fn(&Query, &str) -> Option<String>,
    ) -> OptionOutcome {
        if self.operation == Operation::Unset {
            query.options.remove(self.code);
            return OptionOutcome::Done;
        }
        let Some(data) = self.data.of(query, metadata) else {
            return OptionOutcome::Ignored;
        };
        // The client's NSID option is not among the options, since it is not forwarded (RFC 5001
        // section 3.2).
        let is_wanted_nsid =
            self.code == Options::NSID && query.edns.is_some_and(|edns| edns.wants_nsid);
        let own = query.options.get(self.code);
        let own = own.or(is_wanted_nsid.then_some(&[]));
        let revert = match (self.operation, own) {
            (Operation::Replace, None) => return OptionOutcome::Ignored,
            (Operation::Set | Operation::Replace, Some(own)) => Revert::Restore(own.into()),
            // A rule with a variable does not add a second option.
            (Operation::Append, Some(_)) if !matches!(self.data, OptionSource::Fixed(_)) => {
                return OptionOutcome::Ignored;
            }
            // A sub-query already has the option from its parent.
            (Operation::Append, Some(own)) if *own == *data => return OptionOutcome::Done,
            _ => Revert::Remove,
        };
        let is_set = match self.operation {
            Operation::Append => false,
            _ => query.options.replace(self.code, &data),
        };
        if !is_set && !query.options.push(self.code, &data) {
            // Options of the client must not prevent a rule by filling the buffer.
            query.options.clear();
            query.options.push(self.code, &data);
        }
        if self.reverts {
            OptionOutcome::Reverts(revert)
        } else {
            OptionOutcome::Done
        }
    }

    /// Reverts the change in the reply's options.
    pub fn revert(&self, revert: &Revert, reply: &mut Reply) {
        match revert {
            Revert::Remove => reply.options.remove(self.code),
            Revert::Restore(data) => {
                reply.options.replace(self.code, data);
            }
        }
    }
}

impl OptionSource {
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
                Variable::ClientAddress => bytes_of(client),
                Variable::ServerAddress => bytes_of(query.local.ip().to_canonical()),
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

fn bytes_of(address: IpAddr) -> Box<[u8]> {
    match address {
        IpAddr::V4(address) => address.octets().into(),
        IpAddr::V6(address) => address.octets().into(),
    }
}

/// The data of a Client Subnet option: family, prefix length, scope, and as many address bytes as
/// the prefix has (RFC 7871 section 6).
fn subnet(client: IpAddr, v4: u8, v6: u8) -> Box<[u8]> {
    let (family, length) = match client {
        IpAddr::V4(_) => (1, v4),
        IpAddr::V6(_) => (2, v6),
    };
    let network = ipnet::IpNet::new(client, length).map(|network| network.network());
    let address = bytes_of(network.unwrap_or(client));
    let kept = usize::from(length).div_ceil(8);
    [&[0, family, length, 0], &address[..kept.min(address.len())]]
        .concat()
        .into()
}
