//! The page that the lab prints: `dig` lines to try, made from the objects that are there, each
//! with what it shows. Pure: objects and an address in, text out.

mod examples;

use super::objects::Objects;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

/// So many files of a kind that cannot be read are named.
const NAMED: usize = 10;

/// Where the lab is and what it serves.
#[derive(Debug)]
pub struct Place<'a> {
    /// Where it answers.
    pub address: SocketAddr,
    /// What configures the server.
    pub corefile: &'a Path,
    /// The directory that it serves.
    pub directory: &'a Path,
    /// Whether that is the sample cluster and not somebody's own.
    pub sample: bool,
    /// Whether names outside of the cluster are forwarded.
    pub outside: bool,
}

/// A few lines to try under one head.
struct Section {
    title: &'static str,
    examples: Vec<Example>,
}

/// One line to try.
struct Example {
    /// What it is an example of, and what is to be seen.
    shows: String,
    /// What follows `dig` and the server's address.
    arguments: String,
}

/// The whole page.
pub fn text(objects: &Objects, place: &Place<'_>) -> String {
    let mut page = head(objects, place);
    if objects.is_empty() {
        page += &nothing_yet(place);
        return page;
    }
    page += "\nPaste a line into another terminal; what it shows stands above it. Ctrl-C ends the lab.\n";
    let dig = dig(place.address);
    for section in examples::sections(objects, place.outside) {
        if section.examples.is_empty() {
            continue;
        }
        let _ = write!(page, "\n{}\n", section.title);
        for Example { shows, arguments } in section.examples {
            let _ = write!(page, "  # {shows}\n  {dig} {arguments}\n");
        }
    }
    page += &another_zone(&dig, place);
    if let Some(service) = examples::star(objects) {
        page += &search_list(&dig, &format!("{}.{}", service.name, service.namespace));
    }
    page
}

fn head(objects: &Objects, place: &Place<'_>) -> String {
    let what = if place.sample {
        "a sample cluster"
    } else {
        "your manifests"
    };
    let mut head = format!(
        "lodestone lab: {what}, answered at {} port {}, UDP and TCP.\n",
        place.address.ip(),
        place.address.port()
    );
    let directory = place.directory.display();
    if !objects.is_empty() {
        let _ = writeln!(
            head,
            "{}, {} and {} in {directory}\nEdit those files: the answers follow within a second.",
            count(objects.namespaces, "Namespace"),
            count(objects.services.len(), "Service"),
            count(objects.pods.len(), "Pod"),
        );
    }
    let _ = writeln!(
        head,
        "The Corefile, in a cluster a ConfigMap, is {}: edit it, and the server follows too.",
        place.corefile.display()
    );
    for (files, what) in [
        (
            &objects.unread,
            "Not readable as YAML or JSON, and left out here",
        ),
        (
            &objects.partly,
            "Not readable in part; the log has the line",
        ),
    ] {
        for file in files.iter().take(NAMED) {
            let _ = writeln!(head, "{what}: {file}");
        }
        if let Some(more @ 1..) = files.len().checked_sub(NAMED) {
            let _ = writeln!(head, "{what}: {more} more files");
        }
    }
    if !place.outside {
        head +=
            "/etc/resolv.conf names no server, so names outside of the cluster get no answer.\n";
    }
    head
}

fn nothing_yet(place: &Place<'_>) -> String {
    let directory = place.directory.display();
    format!(
        "\nThere is no Service and no Pod in {directory} yet. Put manifests there (*.yaml, *.yml,\n\
         *.json) and they are answered within a second. What a cluster holds can be had with\n  \
         kubectl get namespaces,services,endpointslices,pods --all-namespaces -o yaml > objects.yaml\n\
         For a sample cluster and lines to try, leave the directory out: lodestone lab\n"
    )
}

/// A line that edits the Corefile, and one that shows what came of it.
fn another_zone(dig: &str, place: &Place<'_>) -> String {
    let Place {
        address, corefile, ..
    } = place;
    let (port, ip) = (address.port(), address.ip());
    let corefile = quoted(&corefile.display().to_string());
    format!(
        "\nA zone of your own (every server block of a Corefile has its own plugins)\n  \
         printf '\\nintranet.test:{port} {{\\n    bind {ip}\\n    hosts {{\\n        192.0.2.80 wiki.intranet.test\\n    }}\\n}}\\n' >> {corefile}\n  \
         # 192.0.2.80, two seconds later; nothing before that, and nothing once those lines are gone\n  \
         {dig} +short wiki.intranet.test\n"
    )
}

/// A path as a word for a shell.
fn quoted(path: &str) -> String {
    let plain = |it: char| it.is_alphanumeric() || "/-_.+".contains(it);
    if path.chars().all(plain) {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// How a pod asks: its whole search list at once, which `dig` only takes from a file.
fn search_list(dig: &str, name: &str) -> String {
    format!(
        "\nA pod's whole search list (dig reads it from /etc/resolv.conf only, so lend it another)\n  \
         printf 'search default.svc.cluster.local svc.cluster.local cluster.local\\noptions ndots:5\\n' > /tmp/pod-resolv.conf\n  \
         unshare -rm sh -c 'mount --bind /tmp/pod-resolv.conf /etc/resolv.conf && exec {dig} +search +short {name}'\n"
    )
}

/// The beginning of every line.
fn dig(address: SocketAddr) -> String {
    let ip = match address.ip() {
        // A server bound to every address is asked at one of them.
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    format!("dig -p {} @{ip}", address.port())
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests;
