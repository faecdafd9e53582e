//! Lints about conflicts between server blocks: ports, zones, forwarding loops.

use std::net::{IpAddr, SocketAddr};

use super::{ServerBlock, is_under};
use crate::{
    corefile::{Diagnostic, Directive, Key, Listen, Transport, Word, ZoneName},
    http_page::HttpPage,
    interfaces::HostAddress,
    tls::PresentedDifference,
};

/// Default addresses of the cluster's DNS Service in common installers.
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

/// A key of a block and its listen addresses.
struct KeyListener<'a> {
    block: usize,
    key: &'a Key,
    port: u16,
    bound: &'a [HostAddress],
}

/// Checks all blocks together.
pub(super) fn check(blocks: &[ServerBlock], default_port: u16, lints: &mut Vec<Diagnostic>) {
    let listeners = listeners(blocks, default_port);
    pages_on_dns_ports(blocks, &listeners, lints);
    transports_on_one_port(&listeners, lints);
    unreachable_views(blocks, &listeners, lints);
    conflicting_tls(blocks, &listeners, lints);
    conflicting_stream_limits(blocks, &listeners, lints);
    for (number, block) in blocks.iter().enumerate() {
        for forward in block.uses("forward").chain(block.uses("grpc")) {
            forwards_to_itself(number, block, forward, &listeners, lints);
            forwards_to_cluster_dns(blocks, forward, lints);
        }
    }
}

fn listeners(blocks: &[ServerBlock], default_port: u16) -> Vec<KeyListener<'_>> {
    let numbered = blocks.iter().enumerate();
    numbered
        .flat_map(|(number, block)| {
            block.keys.iter().map(move |key| KeyListener {
                block: number,
                key,
                port: key.port_or(default_port),
                bound: &block.settings.bind,
            })
        })
        .collect()
}

impl KeyListener<'_> {
    /// Whether the transport uses TCP.
    fn has_tcp(&self) -> bool {
        !matches!(self.key.transport, Transport::Quic | Transport::Https3)
    }

    /// Whether the transport uses UDP.
    fn has_udp(&self) -> bool {
        let transport = self.key.transport;
        matches!(
            transport,
            Transport::Dns | Transport::Quic | Transport::Https3
        )
    }

    /// Whether both have an address and port in common.
    fn overlaps(&self, other: &Self) -> bool {
        let all = self.bound.is_empty() || other.bound.is_empty();
        self.port == other.port
            && self.port != 0
            && (all || self.bound.iter().any(|one| other.bound.contains(one)))
    }

    /// Whether both share a listener, given the same transport: same port, and both unbound or
    /// bound to a common address.
    fn shares_listener_with(&self, other: &Self) -> bool {
        self.overlaps(other) && self.bound.is_empty() == other.bound.is_empty()
    }

    /// Whether queries sent to `address` reach this listener.
    fn receives(&self, address: SocketAddr) -> bool {
        let ip = address.ip();
        self.port == address.port()
            && (self.bound.contains(&ip.into()) || self.bound.is_empty() && ip.is_loopback())
    }
}

/// An HTTP page on the port of a DNS listener.
fn pages_on_dns_ports(
    blocks: &[ServerBlock],
    listeners: &[KeyListener<'_>],
    lints: &mut Vec<Diagnostic>,
) {
    for block in blocks {
        for HttpPage { listen, page, .. } in block.pages() {
            let word = page.plugin();
            let on_it = |one: &&KeyListener<'_>| {
                one.has_tcp() && one.port == listen.port && listen.port != 0 && shares(one, &listen)
            };
            let directive = block.uses(word).next();
            if let (Some(one), Some(directive)) = (listeners.iter().find(on_it), directive) {
                let at = directive.arguments.first().unwrap_or(&directive.name);
                let message = format!(
                    "'{word}' cannot listen on {listen}: the port belongs to a server block"
                );
                let error = at.error(message).also(one.key.span, "this one");
                lints.push(error.help("give one of them another port"));
            }
        }
    }
}

fn shares(one: &KeyListener<'_>, listen: &Listen) -> bool {
    let host: Option<IpAddr> = match listen.host.as_str() {
        "localhost" => Some(IpAddr::from([127, 0, 0, 1])),
        other => other.parse().ok(),
    };
    match host {
        // A host name, not resolved here.
        None if !listen.host.is_empty() => false,
        Some(host) if !host.is_unspecified() => {
            one.bound.is_empty() || one.bound.contains(&host.into())
        }
        _ => true,
    }
}

/// Different transports on one port.
fn transports_on_one_port(listeners: &[KeyListener<'_>], lints: &mut Vec<Diagnostic>) {
    for (index, one) in listeners.iter().enumerate() {
        let clash = |other: &&KeyListener<'_>| {
            let both = other.has_tcp() && one.has_tcp() || other.has_udp() && one.has_udp();
            other.key.transport != one.key.transport && both && other.overlaps(one)
        };
        if let Some(first) = listeners[..index].iter().find(clash) {
            let (mine, other) = (one.key.transport, first.key.transport);
            let message = format!("{mine}:// and {other}:// are served on port {}", one.port);
            let warning = Diagnostic::warning(message).at(one.key.span);
            lints.push(
                warning
                    .label("each receives some of the other's connections")
                    .also(first.key.span, "the other one")
                    .help("give one of them another port"),
            );
        }
    }
}

/// A block with a `view` after a block of the same zone without one.
fn unreachable_views(
    blocks: &[ServerBlock],
    listeners: &[KeyListener<'_>],
    lints: &mut Vec<Diagnostic>,
) {
    for (index, one) in listeners.iter().enumerate() {
        if !blocks[one.block].has("view") {
            continue;
        }
        let takes_all = |other: &&KeyListener<'_>| {
            !blocks[other.block].has("view")
                && other.key.zone == one.key.zone
                && other.key.transport == one.key.transport
                && other.port == one.port
                && other.bound == one.bound
        };
        if let Some(first) = listeners[..index].iter().find(takes_all) {
            let warning =
                Diagnostic::warning("this server block is never reached").at(one.key.span);
            lints.push(
                warning
                    .label("its 'view' is never evaluated")
                    .also(first.key.span, "has no 'view' and takes every query first")
                    .help("put the block without a 'view' last"),
            );
        }
    }
}

/// Blocks that share an HTTP/2 listener with different stream limits. The limit is sent in the
/// connection's first SETTINGS frame, before the client names a zone.
fn conflicting_stream_limits(
    blocks: &[ServerBlock],
    listeners: &[KeyListener<'_>],
    lints: &mut Vec<Diagnostic>,
) {
    let limit = |one: &KeyListener<'_>| blocks[one.block].settings.listening.http2_streams();
    let https = |one: &&KeyListener<'_>| one.key.transport == Transport::Https;
    for (index, one) in listeners.iter().enumerate().filter(|(_, one)| https(one)) {
        let Some(mine) = limit(one) else { continue };
        let mut earlier = listeners[..index].iter().filter(https);
        let other = earlier.find(|other| {
            other.block != one.block
                && other.shares_listener_with(one)
                && limit(other).is_some_and(|it| it != mine)
        });
        let line = || {
            let uses = blocks[one.block].uses("https");
            uses.flat_map(Directive::properties)
                .find(|line| line.name() == "max_streams")
        };
        if let (Some(other), Some(line)) = (other, line()) {
            let message = format!(
                "two blocks on port {} have different max_streams: {mine} and {}",
                one.port,
                limit(other).unwrap_or_default()
            );
            let error = line
                .name()
                .error(message)
                .also(other.key.span, "the other block");
            let help = "use the same value in both, or remove it from one of them";
            lints.push(error.help(help).in_plugin("https"));
            return;
        }
    }
}

/// Blocks that share a listener with different TLS settings, as far as visible without reading the
/// files. The server would refuse to start.
fn conflicting_tls(
    blocks: &[ServerBlock],
    listeners: &[KeyListener<'_>],
    lints: &mut Vec<Diagnostic>,
) {
    let tls = |one: &KeyListener<'_>| blocks[one.block].settings.listening.tls.as_ref();
    for (index, one) in listeners.iter().enumerate() {
        let difference = |other: &KeyListener<'_>| {
            let shared = one.key.transport != Transport::Dns
                && other.key.transport == one.key.transport
                && other.shares_listener_with(one);
            match (tls(other), tls(one)) {
                _ if !shared => None,
                (None, None) => None,
                (Some(first), Some(second)) => first.differ_in_words(second),
                _ => Some(PresentedDifference::Presence),
            }
        };
        let mut others = listeners[..index].iter();
        if let Some((first, what)) = others.find_map(|it| Some((it, difference(it)?))) {
            let (mine, other) = (one.key.zone.as_str(), first.key.zone.as_str());
            let message = format!(
                "conflicting TLS configuration for shared listener on port {} between zones \
                 \"{other}\" and \"{mine}\": {what}",
                one.port
            );
            let error = Diagnostic::error(message).at(one.key.span);
            lints.push(
                error
                    .label("this block")
                    .also(first.key.span, "and this one share a listener")
                    .help("use the same 'tls' in both, or give one of them another port"),
            );
            // One report suffices: the fix applies to all blocks of the port.
            return;
        }
    }
}

/// A forward whose upstream is the server block itself.
fn forwards_to_itself(
    number: usize,
    block: &ServerBlock,
    forward: &Directive,
    listeners: &[KeyListener<'_>],
    lints: &mut Vec<Diagnostic>,
) {
    // These can route the repeated query to another upstream or block.
    if block.has("rewrite") || block.has("view") {
        return;
    }
    let Some(from) = forward.arguments.first().and_then(|from| from.zones().ok()) else {
        return;
    };
    let zones = block.narrow(&from);
    for to in forward.arguments.iter().skip(1) {
        let Some(address) = address(to) else { continue };
        let own = |zone: &ZoneName| {
            let receivers = listeners.iter().filter(|one| {
                one.key.transport == Transport::Dns
                    && one.receives(address)
                    && is_under(zone, &one.key.zone)
            });
            let longest = receivers.max_by_key(|one| one.key.zone.as_str().len());
            longest.filter(|one| one.block == number)
        };
        if let Some(one) = zones.iter().find_map(own) {
            let warning = to.warning(format!("{to} is an address of this server block"));
            lints.push(
                warning
                    .label("queries loop until they time out")
                    .also(one.key.span, "listens there")
                    .help("forward to another server, or to a block on another port"),
            );
        }
    }
}

/// A forward from the cluster's DNS to the usual address of the cluster's DNS.
fn forwards_to_cluster_dns(
    blocks: &[ServerBlock],
    forward: &Directive,
    lints: &mut Vec<Diagnostic>,
) {
    if !blocks.iter().any(|block| block.has("kubernetes")) {
        return;
    }
    for to in forward.arguments.iter().skip(1) {
        let is_it = |address: SocketAddr| {
            address.port() == 53 && CLUSTER_DNS.contains(&address.ip().to_string().as_str())
        };
        if address(to).is_some_and(is_it) {
            let warning = to.warning(format!(
                "{to} is usually the address of the cluster's own DNS"
            ));
            lints.push(
                warning
                    .label("this server, since it serves 'kubernetes'")
                    .help("forward to the network's servers, or to /etc/resolv.conf"),
            );
        }
    }
}

/// Socket address of a plain DNS upstream.
fn address(to: &Word) -> Option<SocketAddr> {
    let text = to.strip_prefix("dns://").unwrap_or(to);
    let bare = text.parse().map(|ip: IpAddr| SocketAddr::new(ip, 53));
    bare.or_else(|_| text.parse()).ok()
}
