//! `lodestone lab [DIR]`: serves cluster names without a cluster, for learning with `dig`.
//!
//! Serves a directory of manifests, the built-in sample or the user's own, with the ordinary server
//! and a generated Corefile, and prints queries to try. The sample and the Corefile are in a
//! temporary directory and can be edited; nothing is written to the user's directory. Not for
//! production: use a Corefile with `manifests DIR`.

mod guide;
mod objects;
mod sample;
mod scratch;

use anyhow::{Context, bail};
use guide::LabContext;
use objects::Objects;
use scratch::{Cleanup, ScratchDirectory};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{
    output, port,
    serve::{self, Corefile},
};
use crate::{error_text, server::LoopKind};

/// File name of the Corefile.
const COREFILE: &str = "Corefile";
/// Default port.
const PORT: u16 = 1053;
/// Number of ports above [`PORT`] that are tried if it is in use.
const MORE_PORTS: u16 = 100;
/// Names the upstream servers.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Serve a sample cluster, or your own manifests, on this machine and print queries to try.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// Directory of manifests (*.yaml, *.yml, *.json) [default: the sample cluster]
    pub directory: Option<PathBuf>,
    /// Port to listen on; 0 for any [default: 1053, or the next free one]
    #[arg(long, short, value_name = "N", value_parser = port)]
    pub port: Option<u16>,
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub address: IpAddr,
    /// Log each query
    #[arg(long)]
    pub log: bool,
}

/// What the server should serve.
#[derive(Debug)]
pub struct Lab {
    /// The Corefile, watched for changes.
    pub corefile: PathBuf,
    /// Listen address, as in the Corefile.
    pub address: SocketAddr,
}

/// Inputs of the page printed when the server has started.
#[derive(Debug)]
pub struct Started {
    directory: PathBuf,
    corefile: PathBuf,
    sample: bool,
    outside: bool,
    address: SocketAddr,
    /// The requested port; 0 for any.
    requested_port: u16,
}

/// Serves until a stop signal; returns the exit code.
pub fn run(arguments: &Arguments) -> ExitCode {
    let served = run_with(arguments, |lab, started| {
        serve::run(serve::ServeOptions {
            corefile: Corefile::File(lab.corefile),
            default_port: lab.address.port(),
            quiet: true,
            log_format: crate::logging::Format::Text,
            loops: LoopKind::default(),
            pid_file: None,
            on_start: Some(Box::new(move || started.print())),
        })
    });
    served.unwrap_or_else(|error| {
        output::print_error(format!("error: {}", error_text::chain(&error)));
        ExitCode::FAILURE
    })
}

/// Serves until `serve` returns. `serve` runs the server with the Corefile and calls
/// [`Started::print`] when it has started.
pub fn run_with<T>(
    arguments: &Arguments,
    serve: impl FnOnce(Lab, Started) -> T,
) -> anyhow::Result<T> {
    if let Some(directory) = &arguments.directory {
        check(directory)?;
    }
    let mut scratch = ScratchDirectory::make(&std::env::temp_dir())?;
    let served = write_files(arguments, &mut scratch).map(|(lab, started)| serve(lab, started));
    let corefile = scratch.path(COREFILE);
    if scratch.clean_up() == Cleanup::Kept {
        let corefile = corefile.display();
        print(&format!(
            "Your files are kept; serve them with: lodestone -conf {corefile}\n"
        ));
    }
    served
}

/// Writes the files to be served.
fn write_files(
    arguments: &Arguments,
    scratch: &mut ScratchDirectory,
) -> anyhow::Result<(Lab, Started)> {
    let directory = if let Some(directory) = &arguments.directory {
        std::path::absolute(directory)?
    } else {
        sample::write_files(scratch)?;
        scratch.directory().to_owned()
    };
    let address = free_address(arguments.address, arguments.port)?;
    let outside = names_a_server(&std::fs::read_to_string(RESOLV_CONF).unwrap_or_default());
    scratch.write(
        COREFILE,
        corefile(address, &directory, outside, arguments.log)?,
    )?;
    let corefile = scratch.path(COREFILE);
    let lab = Lab {
        corefile: corefile.clone(),
        address,
    };
    let started = Started {
        directory,
        corefile,
        sample: arguments.directory.is_none(),
        outside,
        address,
        requested_port: arguments.port.unwrap_or(PORT),
    };
    Ok((lab, started))
}

impl Started {
    /// Prints the queries to try.
    pub fn print(&self) {
        print(&self.page());
    }

    fn page(&self) -> String {
        let mut page = String::new();
        if self.requested_port != 0 && self.requested_port != self.address.port() {
            let _ = writeln!(
                page,
                "Port {} is taken; this is the next free one.",
                self.requested_port
            );
        }
        let objects = Objects::read(&self.directory).unwrap_or_default();
        let context = LabContext {
            address: self.address,
            directory: &self.directory,
            corefile: &self.corefile,
            sample: self.sample,
            outside: self.outside,
        };
        page + &guide::text(&objects, &context)
    }
}

/// Validates a directory before the start.
fn check(directory: &Path) -> anyhow::Result<()> {
    let shown = directory.display();
    if !directory.exists() {
        bail!("{shown}: there is no such directory. Make it, or omit it for the sample cluster");
    }
    if !directory.is_dir() {
        bail!("{shown} is a file; the lab serves a directory of manifests");
    }
    std::fs::read_dir(directory).with_context(|| format!("cannot read {shown}"))?;
    Ok(())
}

/// A Corefile for a directory: that of a stock cluster without what requires a cluster.
fn corefile(
    address: SocketAddr,
    directory: &Path,
    outside: bool,
    log: bool,
) -> anyhow::Result<String> {
    let directory = quoted(directory)?;
    let log = if log { "    log\n" } else { "" };
    let (fallthrough, forward) = if outside {
        (
            "        fallthrough in-addr.arpa ip6.arpa\n",
            "    forward . /etc/resolv.conf\n    loop\n",
        )
    } else {
        ("", "")
    };
    Ok(format!(
        ".:{port} {{\n    \
             bind {ip}\n    \
             errors\n    \
             reload 2s\n\
         {log}    \
             kubernetes cluster.local in-addr.arpa ip6.arpa {{\n        \
                 manifests {directory}\n        \
                 pods verified\n\
         {fallthrough}    \
             }}\n    \
             cache 30\n\
         {forward}    \
             loadbalance\n\
         }}\n",
        port = address.port(),
        ip = address.ip(),
    ))
}

/// A path as a quoted word of a Corefile.
fn quoted(path: &Path) -> anyhow::Result<String> {
    match path.to_str() {
        // Environment references are replaced inside quotes too and cannot be escaped; `\"` is the
        // only escape.
        Some(text)
            if !["{$", "{%", "\"", "\\", "\n", "\r"]
                .iter()
                .any(|it| text.contains(it)) =>
        {
            Ok(format!("\"{text}\""))
        }
        _ => bail!(
            "{}: a Corefile cannot contain this path (quotes, backslashes, line ends, {{$ and {{% have a \
             meaning there, and it must be UTF-8). Use another one",
            path.display()
        ),
    }
}

/// Whether a resolv.conf names a server to forward to.
fn names_a_server(resolv_conf: &str) -> bool {
    resolv_conf.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.next() == Some("nameserver")
            && words
                .next()
                .is_some_and(|it| it.starts_with(|it: char| it.is_ascii_hexdigit() || it == ':'))
    })
}

/// A free address. A requested port must be free; the default port may move up.
///
/// Another process can take the address before the server binds it; the server reports that.
fn free_address(ip: IpAddr, port: Option<u16>) -> anyhow::Result<SocketAddr> {
    let first = port.unwrap_or(PORT);
    let error = match probe(SocketAddr::new(ip, first)) {
        Ok(address) => return Ok(address),
        Err(error) => error,
    };
    let next = (first.saturating_add(1)..=first.saturating_add(MORE_PORTS))
        .find_map(|port| probe(SocketAddr::new(ip, port)).ok())
        .filter(|_| error.kind() == io::ErrorKind::AddrInUse);
    match (port, next) {
        (None, Some(address)) => Ok(address),
        (Some(port), Some(free)) => bail!(
            "port {port} of {ip} is taken; {free_port} is free: --port {free_port}",
            free_port = free.port()
        ),
        _ => Err(error).with_context(|| format!("cannot listen at {ip} port {first}")),
    }
}

/// Whether both sockets can be bound, without SO_REUSEPORT. The server's sockets set it, so two
/// labs could share a port and each get half of the queries.
fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let tcp = TcpListener::bind(address)?;
    let address = tcp.local_addr()?;
    UdpSocket::bind(address)?;
    Ok(address)
}

/// Prints. A failed write to standard output does not stop the server.
fn print(text: &str) {
    let _ = output::print(text);
}

#[cfg(test)]
mod tests;
