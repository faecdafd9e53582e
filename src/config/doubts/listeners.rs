//! What blocks take from each other: ports, names, themselves.

use std::net::{IpAddr, SocketAddr};

use super::{ServerBlock, is_under};
use crate::{
    admin::Endpoint,
    corefile::{Diagnostic, Directive, Key, Listen, Transport, Word, Zone},
    interfaces::HostAddress,
    tls::Difference,
};

/// Addresses that installers give to a cluster's own DNS.
const CLUSTER_DNS: [&str; 8] = [
    "10.0.0.10",
    "10.43.0.10",
    "10.96.0.10",
    "10.100.0.10",
    "10.152.183.10",
    "10.233.0.3",
    "169.254.20.10",
    "172.20.0.10",
];

/// A key of a block and where it is listened on.
struct Listener<'a> {
    block: usize,
    key: &'a Key,
    port: u16,
    bound: &'a [HostAddress],
}

/// Looks at all blocks together.
pub(super) fn look(blocks: &[ServerBlock], default_port: u16, found: &mut Vec<Diagnostic>) {
    let listeners = listeners(blocks, default_port);
    taken_by_a_page(blocks, &listeners, found);
    two_transports(&listeners, found);
    behind_all(blocks, &listeners, found);
    two_ways_of_tls(blocks, &listeners, found);
    two_stream_limits(blocks, &listeners, found);
    for (number, block) in blocks.iter().enumerate() {
        for forward in block.uses("forward").chain(block.uses("grpc")) {
            to_itself(number, block, forward, &listeners, found);
            to_the_cluster(blocks, forward, found);
        }
    }
}

fn listeners(blocks: &[ServerBlock], default_port: u16) -> Vec<Listener<'_>> {
    let numbered = blocks.iter().enumerate();
    numbered
        .flat_map(|(number, block)| {
            block.keys.iter().map(move |key| Listener {
                block: number,
                key,
                port: key.port_or(default_port),
                bound: &block.settings.bind,
            })
        })
        .collect()
}

impl Listener<'_> {
    /// Whether it is spoken to over TCP.
    fn has_tcp(&self) -> bool {
        !matches!(self.key.transport, Transport::Quic | Transport::Https3)
    }

    /// Whether it is spoken to over UDP.
    fn has_udp(&self) -> bool {
        let transport = self.key.transport;
        matches!(
            transport,
            Transport::Dns | Transport::Quic | Transport::Https3
        )
    }

    /// Whether it and another one stand on one address at least.
    fn meets(&self, other: &Self) -> bool {
        let all = self.bound.is_empty() || other.bound.is_empty();
        self.port == other.port
            && self.port != 0
            && (all || self.bound.iter().any(|one| other.bound.contains(one)))
    }

    /// Whether it and another one of its transport are one listener: on one port, and on all
    /// addresses both, or on one that both name.
    fn is_one_with(&self, other: &Self) -> bool {
        self.meets(other) && self.bound.is_empty() == other.bound.is_empty()
    }

    /// Whether what is sent to `address` gets here.
    fn hears(&self, address: SocketAddr) -> bool {
        let ip = address.ip();
        self.port == address.port()
            && (self.bound.contains(&ip.into()) || self.bound.is_empty() && ip.is_loopback())
    }
}

/// A page over HTTP on the port of a server.
fn taken_by_a_page(
    blocks: &[ServerBlock],
    listeners: &[Listener<'_>],
    found: &mut Vec<Diagnostic>,
) {
    for block in blocks {
        for Endpoint { listen, page, .. } in block.pages() {
            let word = page.plugin();
            let on_it = |one: &&Listener<'_>| {
                one.has_tcp() && one.port == listen.port && listen.port != 0 && shares(one, &listen)
            };
            let directive = block.uses(word).next();
            if let (Some(one), Some(directive)) = (listeners.iter().find(on_it), directive) {
                let at = directive.arguments.first().unwrap_or(&directive.name);
                let message = format!("'{word}' cannot listen on {listen}: a server has this port");
                let error = at.error(message).also(one.key.place, "this one");
                found.push(error.help("give one of them another port"));
            }
        }
    }
}

fn shares(one: &Listener<'_>, listen: &Listen) -> bool {
    let host: Option<IpAddr> = match listen.host.as_str() {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        other => other.parse().ok(),
    };
    match host {
        // A name: nobody knows here what it stands for.
        None if !listen.host.is_empty() => false,
        Some(host) if !host.is_unspecified() => {
            one.bound.is_empty() || one.bound.contains(&host.into())
        }
        _ => true,
    }
}

/// Servers of different transports on one port.
fn two_transports(listeners: &[Listener<'_>], found: &mut Vec<Diagnostic>) {
    for (place, one) in listeners.iter().enumerate() {
        let clash = |other: &&Listener<'_>| {
            let both = other.has_tcp() && one.has_tcp() || other.has_udp() && one.has_udp();
            other.key.transport != one.key.transport && both && other.meets(one)
        };
        if let Some(first) = listeners[..place].iter().find(clash) {
            let (mine, other) = (one.key.transport, first.key.transport);
            let message = format!("{mine}:// and {other}:// are served on port {}", one.port);
            let warning = Diagnostic::warning(message).at(one.key.place);
            found.push(
                warning
                    .label("each gets a part of what is meant for the other")
                    .also(first.key.place, "the other one")
                    .help("give one of them another port"),
            );
        }
    }
}

/// Blocks with a `view` behind one of the same zone without.
fn behind_all(blocks: &[ServerBlock], listeners: &[Listener<'_>], found: &mut Vec<Diagnostic>) {
    for (place, one) in listeners.iter().enumerate() {
        if !blocks[one.block].has("view") {
            continue;
        }
        let takes_all = |other: &&Listener<'_>| {
            !blocks[other.block].has("view")
                && other.key.zone == one.key.zone
                && other.key.transport == one.key.transport
                && other.port == one.port
                && other.bound == one.bound
        };
        if let Some(first) = listeners[..place].iter().find(takes_all) {
            let warning = Diagnostic::warning("this server block is never asked").at(one.key.place);
            found.push(
                warning
                    .label("its 'view' is not looked at")
                    .also(
                        first.key.place,
                        "takes every question first, for want of a 'view'",
                    )
                    .help("put the block without a 'view' last"),
            );
        }
    }
}

/// Blocks that share a listener of HTTP/2 and allow different numbers of streams: a connection has one
/// number, which the server sends before the client names the block's zone.
fn two_stream_limits(
    blocks: &[ServerBlock],
    listeners: &[Listener<'_>],
    found: &mut Vec<Diagnostic>,
) {
    let limit = |one: &Listener<'_>| blocks[one.block].settings.listening.http2_streams();
    let https = |one: &&Listener<'_>| one.key.transport == Transport::Https;
    for (place, one) in listeners.iter().enumerate().filter(|(_, one)| https(one)) {
        let Some(mine) = limit(one) else { continue };
        let mut earlier = listeners[..place].iter().filter(https);
        let other = earlier.find(|other| {
            other.block != one.block
                && other.is_one_with(one)
                && limit(other).is_some_and(|it| it != mine)
        });
        let line = || {
            let uses = blocks[one.block].uses("https");
            uses.flat_map(Directive::properties)
                .find(|line| line.name() == "max_streams")
        };
        if let (Some(other), Some(line)) = (other, line()) {
            let message = format!(
                "two blocks on port {} say different max_streams: {mine} and {}",
                one.port,
                limit(other).unwrap_or_default()
            );
            let error = line
                .name()
                .error(message)
                .also(other.key.place, "the other block");
            let help = "say the same in both, or leave it out of one of them";
            found.push(error.help(help).in_plugin("https"));
            return;
        }
    }
}

/// Blocks that share a listener and configure its TLS differently, as far as that shows without their
/// files: a start would fail.
fn two_ways_of_tls(
    blocks: &[ServerBlock],
    listeners: &[Listener<'_>],
    found: &mut Vec<Diagnostic>,
) {
    let tls = |one: &Listener<'_>| blocks[one.block].settings.listening.tls.as_ref();
    for (place, one) in listeners.iter().enumerate() {
        let difference = |other: &Listener<'_>| {
            let shared = one.key.transport != Transport::Dns
                && other.key.transport == one.key.transport
                && other.is_one_with(one);
            match (tls(other), tls(one)) {
                _ if !shared => None,
                (None, None) => None,
                (Some(first), Some(second)) => first.differ_in_words(second),
                _ => Some(Difference::Presence),
            }
        };
        let mut others = listeners[..place].iter();
        if let Some((first, what)) = others.find_map(|it| Some((it, difference(it)?))) {
            let (mine, other) = (one.key.zone.as_str(), first.key.zone.as_str());
            let message = format!(
                "conflicting TLS configuration for shared listener on port {} between zones \
                 \"{other}\" and \"{mine}\": {what}",
                one.port
            );
            let error = Diagnostic::error(message).at(one.key.place);
            found.push(
                error
                    .label("this block")
                    .also(first.key.place, "and this one share a listener")
                    .help("let both say the same in 'tls', or give one of them another port"),
            );
            // One is enough: the same change mends all blocks of the port.
            return;
        }
    }
}

/// A forward that leads back to the block that it is in.
fn to_itself(
    number: usize,
    block: &ServerBlock,
    forward: &Directive,
    listeners: &[Listener<'_>],
    found: &mut Vec<Diagnostic>,
) {
    // These may lead a question elsewhere when it comes back.
    if block.has("rewrite") || block.has("view") {
        return;
    }
    let Some(from) = forward.arguments.first().and_then(|from| from.zones().ok()) else {
        return;
    };
    let zones = block.narrow(&from);
    for to in forward.arguments.iter().skip(1) {
        let Some(address) = address(to) else { continue };
        let own = |zone: &Zone| {
            let hear = listeners.iter().filter(|one| {
                one.key.transport == Transport::Dns
                    && one.hears(address)
                    && is_under(zone, &one.key.zone)
            });
            let longest = hear.max_by_key(|one| one.key.zone.as_str().len());
            longest.filter(|one| one.block == number)
        };
        if let Some(one) = zones.iter().find_map(own) {
            let warning = to.warning(format!("{to} is this server block itself"));
            found.push(
                warning
                    .label("a question goes round until it is given up")
                    .also(one.key.place, "listens there")
                    .help("forward to another server, or to a block on another port"),
            );
        }
    }
}

/// A forward to the address that the cluster's DNS usually has, from the cluster's DNS.
fn to_the_cluster(blocks: &[ServerBlock], forward: &Directive, found: &mut Vec<Diagnostic>) {
    if !blocks.iter().any(|block| block.has("kubernetes")) {
        return;
    }
    for to in forward.arguments.iter().skip(1) {
        let is_it = |address: SocketAddr| {
            address.port() == 53 && CLUSTER_DNS.contains(&address.ip().to_string().as_str())
        };
        if address(to).is_some_and(is_it) {
            let warning = to.warning(format!("{to} is as a rule the cluster's own DNS"));
            found.push(
                warning
                    .label("that is this server, as it serves 'kubernetes'")
                    .help("forward to the network's servers, or to /etc/resolv.conf"),
            );
        }
    }
}

/// The address of a plain DNS server.
fn address(to: &Word) -> Option<SocketAddr> {
    let text = to.strip_prefix("dns://").unwrap_or(to);
    let bare = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53));
    bare.or_else(|_| text.parse()).ok()
}
