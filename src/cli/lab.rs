//! `lodestone lab [DIR]`: serves cluster names without a cluster, for learning with `dig`.
//!
//! Serves a directory of manifests, the built-in sample or the user's own, with the ordinary server
//! and a generated Corefile, and prints queries to try. The sample and the Corefile are in a
//! temporary directory and can be edited; nothing is written to the user's directory. Names outside of
//! the cluster are answered by name servers of the lab itself. `lodestone lab check` examines the exercises
//! of `docs/lab.md`. Not for production: use a Corefile with `manifests DIR`.

mod ask;
mod check;
mod corefile;
mod guide;
mod objects;
mod outside;
mod running;
mod sample;
mod scratch;

use anyhow::{Context, bail};
use guide::LabContext;
use objects::Objects;
use outside::{Outside, Ports};
use running::RunningLab;
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
use crate::{
    control::{ControlSettings, socket},
    error_text,
    process::ProcessOptions,
};

/// File name of the Corefile.
const COREFILE: &str = "Corefile";
/// Default port.
const PORT: u16 = 1053;
/// Number of ports above [`PORT`] that are tried if it is in use.
const MORE_PORTS: u16 = 100;
/// Default port of the page.
const PAGE_PORT: u16 = 8053;

/// Serve a sample cluster, or your own manifests, on this machine and print queries to try.
#[derive(Clone, Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Directory of manifests (*.yaml, *.yml, *.json), or of a lab that has ended [default: the sample cluster]
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
    /// Port of the page for a browser, at 127.0.0.1; 0 for any, "off" for none [default: 8053, or the next free
    /// one]
    #[arg(long, value_name = "N|off", value_parser = page_port)]
    pub page: Option<PagePort>,
}

/// Port of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PagePort {
    /// No page.
    Off,
    /// This port; 0 for any.
    At(u16),
}

fn page_port(text: &str) -> Result<PagePort, String> {
    if text == "off" {
        return Ok(PagePort::Off);
    }
    let port = port(text).map(PagePort::At);
    port.map_err(|_| "use a port from 0 to 65535, or off".to_owned())
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Verb {
    Check(check::Arguments),
}

/// What the server should serve.
#[derive(Debug)]
pub struct Lab {
    /// The Corefile, watched for changes.
    pub corefile: PathBuf,
    /// Listen address, as in the Corefile.
    pub address: SocketAddr,
    /// The page and the control socket.
    pub control: ControlSettings,
}

/// Inputs of the page printed when the server has started.
#[derive(Debug)]
pub struct Started {
    directory: PathBuf,
    corefile: PathBuf,
    sample: bool,
    outside: outside::Addresses,
    address: SocketAddr,
    /// The requested port; 0 for any.
    requested_port: u16,
    page: Option<SocketAddr>,
}

/// Serves until a stop signal, or checks exercises; returns the exit code.
pub fn run(arguments: &Arguments) -> ExitCode {
    if let Some(Verb::Check(arguments)) = &arguments.verb {
        return check::run(arguments);
    }
    let served = run_with(arguments, |lab, started| {
        serve::run(serve::ServeOptions {
            corefile: Corefile::File(lab.corefile),
            default_port: lab.address.port(),
            quiet: true,
            log_format: crate::logging::Format::Text,
            process: ProcessOptions {
                control: lab.control,
                ..ProcessOptions::default()
            },
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
        check_directory(directory)?;
        if let Some(lab) = RunningLab::ended(directory)? {
            return resume(&lab, directory, arguments, serve);
        }
    }
    let ports = match arguments.port {
        Some(0) => Ports::Any,
        _ => Ports::Default,
    };
    let outside = Outside::start(ports)?;
    let mut scratch = ScratchDirectory::make(&std::env::temp_dir())?;
    let files = write_files(arguments, &outside, &mut scratch);
    let (served, running) = match files {
        Ok((lab, started, running)) => (Ok(serve(lab, started)), Some(running)),
        Err(error) => (Err(error), None),
    };
    scratch.remove(running::FILE);
    let directory = scratch.directory().to_owned();
    if scratch.clean_up() == Cleanup::Kept
        && let Some(running) = running
    {
        running.end(&directory)?;
        print_kept(&directory);
    }
    served
}

/// Serves a lab that has ended again: its edited files, at its addresses.
fn resume<T>(
    lab: &RunningLab,
    directory: &Path,
    arguments: &Arguments,
    serve: impl FnOnce(Lab, Started) -> T,
) -> anyhow::Result<T> {
    let shown = directory.display();
    if arguments.port.is_some() || arguments.log {
        bail!("{shown} is a lab with its own Corefile: edit that instead of using options");
    }
    let needed = || format!("the Corefile of {shown} needs this port");
    let outside = Outside::start(Ports::These(lab.outside)).with_context(needed)?;
    probe(lab.address)
        .with_context(|| format!("cannot listen at {}", lab.address))
        .with_context(needed)?;
    let page = page_address(arguments)?;
    lab.begin(directory)?;
    let served = serve(
        Lab {
            corefile: directory.join(COREFILE),
            address: lab.address,
            control: control(page, arguments),
        },
        Started {
            directory: lab.manifests.clone(),
            corefile: directory.join(COREFILE),
            sample: lab.sample,
            outside: outside.addresses(),
            address: lab.address,
            requested_port: lab.address.port(),
            page,
        },
    );
    lab.end(directory)?;
    print_kept(directory);
    Ok(served)
}

fn print_kept(directory: &Path) {
    print(&format!(
        "Your files are kept; go on with: lodestone lab {}\n",
        directory.display()
    ));
}

/// Writes the files to be served.
fn write_files(
    arguments: &Arguments,
    outside: &Outside,
    scratch: &mut ScratchDirectory,
) -> anyhow::Result<(Lab, Started, RunningLab)> {
    let directory = if let Some(directory) = &arguments.directory {
        std::path::absolute(directory)?
    } else {
        sample::write_files(scratch)?;
        scratch.directory().to_owned()
    };
    let address = free_address(arguments.address, arguments.port)?;
    let outside = outside.addresses();
    let text = corefile::text(address, &directory, outside.internet, arguments.log)?;
    scratch.write(COREFILE, text)?;
    let corefile = scratch.path(COREFILE);
    let running = RunningLab {
        address,
        corefile: corefile.clone(),
        manifests: directory.clone(),
        sample: arguments.directory.is_none(),
        outside,
    };
    scratch.write(running::FILE, running.to_text()?)?;
    let page = page_address(arguments)?;
    let lab = Lab {
        corefile: corefile.clone(),
        address,
        control: control(page, arguments),
    };
    let started = Started {
        directory,
        corefile,
        sample: arguments.directory.is_none(),
        outside,
        address,
        requested_port: arguments.port.unwrap_or(PORT),
        page,
    };
    Ok((lab, started, running))
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
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("lodestone"));
        let context = LabContext {
            address: self.address,
            directory: &self.directory,
            corefile: &self.corefile,
            sample: self.sample,
            outside: self.outside,
            program: &program.to_string_lossy(),
            page: self.page,
        };
        page + &guide::text(&objects, &context)
    }
}

/// Validates a directory before the start.
fn check_directory(directory: &Path) -> anyhow::Result<()> {
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

fn control(page: Option<SocketAddr>, arguments: &Arguments) -> ControlSettings {
    ControlSettings {
        // Another lab that starts at the same time may choose the same port.
        page_is_optional: arguments.page.is_none(),
        socket: Some(socket::Address::Automatic),
        page: page.into_iter().collect(),
    }
}

/// The address of the page: the requested port, else the default one or the next that is free. A lab without
/// a page is still a lab, so that only a requested port can fail.
fn page_address(arguments: &Arguments) -> anyhow::Result<Option<SocketAddr>> {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let free = |port: u16| {
        let listener = TcpListener::bind((here, port))?;
        listener.local_addr()
    };
    match arguments.page {
        Some(PagePort::Off) => Ok(None),
        Some(PagePort::At(port)) => {
            let address = free(port)
                .with_context(|| format!("cannot serve the page at {here} port {port}"))?;
            Ok(Some(address))
        }
        None if arguments.port == Some(0) => Ok(free(0).ok()),
        None => Ok((PAGE_PORT..=PAGE_PORT + MORE_PORTS).find_map(|port| free(port).ok())),
    }
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
