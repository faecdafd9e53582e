//! The servers of `grpc` lines.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::runtime::Handle;

use super::{
    Facts,
    probe::{Probe, question},
    report::Finding,
    upstreams::verdict,
};
use crate::{
    error_text,
    plugin::grpc::{Config, exchange},
    reply::{Reply, Why},
    upstream::{Failure, Packet, Rpc, RpcError},
    wire::{Name, Rcode, Type},
};

/// Queries each server by gRPC.
pub async fn check(facts: &Facts) -> Vec<Finding> {
    let Some(config) = &facts.config else {
        return Vec::new();
    };
    let mut findings = Vec::new();
    for plugin in config.plugins_of::<Config>() {
        let from = plugin.from;
        let servers = match plugin.open(&Handle::current()) {
            Ok(servers) => servers,
            Err(error) => {
                let error = error_text::chain(&anyhow::Error::from(error));
                let subject = format!("(grpc {from})");
                let remedy = "Correct the grpc line, or the files that it names";
                findings.push(Finding::fail("upstream", subject, error, remedy));
                continue;
            }
        };
        findings.extend(join_all(servers.into_iter().map(|server| probe(server, from))).await);
    }
    findings
}

async fn probe(server: Arc<Rpc>, from: Name) -> Finding {
    let rtype = if from == Name::ROOT {
        Type::NS
    } else {
        Type::SOA
    };
    let packet = Packet::probe(&question(from, rtype), true);
    let subject = format!("grpc://{} (grpc {from})", server.authority());
    let mut status = None;
    let probe = Probe::of(async {
        let reply = exchange(&server, &packet, 0).await;
        let denial = || Reply::failure(Rcode::NXDOMAIN, Why::Upstream);
        reply
            .map(|reply| reply.unwrap_or_else(denial))
            .map_err(|error| match error {
                RpcError::Failed(failure) => failure,
                other @ RpcError::Status { .. } => {
                    status = Some(other.to_string());
                    Failure::Malformed
                }
            })
    });
    let probe = probe.await;
    match status {
        Some(status) => {
            let remedy = "Check whether it is a DNS server with CoreDNS's gRPC service";
            Finding::fail("upstream", subject, status, remedy)
        }
        None => verdict(&subject, &probe, None),
    }
}
