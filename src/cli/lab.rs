//! `lodestone lab [DIR]`: the names of a cluster without a cluster, for whoever learns with `dig`.
//!
//! It serves a directory of manifests, the built-in sample or a person's own, through the ordinary
//! server with a Corefile made here, and prints what to try. Sample and Corefile lie in a temporary
//! directory, to be edited; nothing is ever written into a person's own. It is not for production:
//! a Corefile with `manifests DIR` is.

mod guide;
mod objects;
mod sample;
mod scratch;

use anyhow::{Context, bail};
use guide::Place;
use objects::Objects;
use scratch::{Left, Scratch};
use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{
    output, port,
    serve::{self, Corefile},
};
use crate::{plain, server::LoopKind};

/// The name of the file that configures the server.
const COREFILE: &str = "Corefile";
/// The port where none is asked for.
const PORT: u16 = 1053;
/// How many ports above [`PORT`] are tried where it is taken.
const NEXT: u16 = 100;
/// Where the machine's own name servers stand.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Serve a sample cluster, or your own manifests, on this machine and print what to ask it.
#[derive(Clone, Debug, clap::Args)]
pub struct Arguments {
    /// A directory of manifests (*.yaml, *.yml, *.json). Without it: the sample cluster
    pub directory: Option<PathBuf>,
    /// The port to answer at; 0 for any. Without it: 1053, or the next one that is free
    #[arg(long, short, value_name = "N", value_parser = port)]
    pub port: Option<u16>,
    /// The address to answer at
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub address: IpAddr,
    /// Print a line for each query
    #[arg(long)]
    pub log: bool,
}

/// What the server is to serve.
#[derive(Debug)]
pub struct Lab {
    /// The Corefile, to be followed.
    pub corefile: PathBuf,
    /// Where it will answer; the Corefile says the same.
    pub address: SocketAddr,
}

/// What to tell once the server answers.
#[derive(Debug)]
pub struct Started {
    directory: PathBuf,
    corefile: PathBuf,
    sample: bool,
    outside: bool,
    address: SocketAddr,
    /// The port that was wished for; 0 for any.
    wished: u16,
}

/// Serves until told to stop, and gives the exit code.
pub fn run(arguments: &Arguments) -> ExitCode {
    let served = run_with(arguments, |lab, started| {
        serve::run(serve::Options {
            corefile: Corefile::File(lab.corefile),
            default_port: lab.address.port(),
            quiet: true,
            log_form: crate::logging::Form::Text,
            loops: LoopKind::default(),
            pid_file: None,
            on_start: Some(Box::new(move || started.tell())),
        })
    });
    served.unwrap_or_else(|error| {
        output::complain(format!("error: {}", plain::chain(&error)));
        ExitCode::FAILURE
    })
}

/// Serves until `serve` returns. `serve` runs the ordinary server on the Corefile, and calls
/// [`Started::tell`] once the server answers.
pub fn run_with<T>(
    arguments: &Arguments,
    serve: impl FnOnce(Lab, Started) -> T,
) -> anyhow::Result<T> {
    if let Some(directory) = &arguments.directory {
        check(directory)?;
    }
    let mut scratch = Scratch::make(&std::env::temp_dir())?;
    let served = lay_out(arguments, &mut scratch).map(|(lab, started)| serve(lab, started));
    let corefile = scratch.path(COREFILE);
    if scratch.leave() == Left::Kept {
        let corefile = corefile.display();
        say(&format!(
            "Your files are still there, to be served with: lodestone -conf {corefile}\n"
        ));
    }
    served
}

/// Writes the files that are to be served.
fn lay_out(arguments: &Arguments, scratch: &mut Scratch) -> anyhow::Result<(Lab, Started)> {
    let directory = if let Some(directory) = &arguments.directory {
        std::path::absolute(directory)?
    } else {
        sample::lay_out(scratch)?;
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
        wished: arguments.port.unwrap_or(PORT),
    };
    Ok((lab, started))
}

impl Started {
    /// Prints what there is to try.
    pub fn tell(&self) {
        say(&self.page());
    }

    fn page(&self) -> String {
        let mut page = String::new();
        if self.wished != 0 && self.wished != self.address.port() {
            let _ = writeln!(
                page,
                "Port {} is taken; this is the next free one.",
                self.wished
            );
        }
        let objects = Objects::read(&self.directory).unwrap_or_default();
        let place = Place {
            address: self.address,
            directory: &self.directory,
            corefile: &self.corefile,
            sample: self.sample,
            outside: self.outside,
        };
        page + &guide::text(&objects, &place)
    }
}

/// Says before anything starts what is wrong with a directory.
fn check(directory: &Path) -> anyhow::Result<()> {
    let shown = directory.display();
    if !directory.exists() {
        bail!(
            "{shown}: there is no such directory. Make it, or leave it out for the sample cluster"
        );
    }
    if !directory.is_dir() {
        bail!("{shown} is a file; the lab serves a directory of manifests");
    }
    std::fs::read_dir(directory).with_context(|| format!("cannot read {shown}"))?;
    Ok(())
}

/// The Corefile that serves a directory: a stock cluster's, less what only a cluster needs.
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

/// A path as a word of a Corefile.
fn quoted(path: &Path) -> anyhow::Result<String> {
    match path.to_str() {
        // The language replaces environment references inside quotes too, and has no escape for
        // them; a backslash before a quote is its only escape.
        Some(text)
            if !["{$", "{%", "\"", "\\", "\n", "\r"]
                .iter()
                .any(|it| text.contains(it)) =>
        {
            Ok(format!("\"{text}\""))
        }
        _ => bail!(
            "{}: a Corefile cannot carry this path (quotes, backslashes, line ends, {{$ and {{% have a \
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

/// An address at which nothing listens. A port that was asked for is that port or an error; the
/// default one may move.
///
/// Another program can take it before the server does; the server then says so.
fn free_address(ip: IpAddr, port: Option<u16>) -> anyhow::Result<SocketAddr> {
    let first = port.unwrap_or(PORT);
    let error = match probe(SocketAddr::new(ip, first)) {
        Ok(address) => return Ok(address),
        Err(error) => error,
    };
    let next = (first.saturating_add(1)..=first.saturating_add(NEXT))
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

/// Whether both sockets of a server could be had there. The server's own share their port with
/// others of the same user, so two labs would each get half of the queries; these do not.
fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let tcp = TcpListener::bind(address)?;
    let address = tcp.local_addr()?;
    UdpSocket::bind(address)?;
    Ok(address)
}

/// Prints. Standard output that cannot be written is no reason to stop serving.
fn say(text: &str) {
    let _ = output::print(text);
}

#[cfg(test)]
mod tests;
