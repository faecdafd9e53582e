//! The page printed by the lab: `dig` commands for the objects that are served, each with its
//! expected result. Pure: objects and an address in, text out.

mod examples;

use super::{ask::client_address, objects::Objects, outside::Addresses};
use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

/// Maximum number of unreadable files listed per kind.
const MAX_LISTED: usize = 10;

/// Location and content of the lab.
#[derive(Debug)]
pub struct LabContext<'a> {
    /// Listen address.
    pub address: SocketAddr,
    /// The Corefile.
    pub corefile: &'a Path,
    /// The directory of manifests.
    pub directory: &'a Path,
    /// Whether it is the sample cluster.
    pub sample: bool,
    /// The name servers outside of the cluster.
    pub outside: Addresses,
    /// This program, as a shell finds it.
    pub program: &'a str,
    /// The page for a browser.
    pub page: Option<SocketAddr>,
}

/// Examples under one heading.
struct ExampleSection {
    title: &'static str,
    examples: Vec<Example>,
}

/// One command to try.
struct Example {
    /// What it demonstrates and the expected result.
    shows: String,
    /// Arguments after `dig` and the server's address.
    arguments: String,
}

/// The complete page.
pub fn text(objects: &Objects, context: &LabContext<'_>) -> String {
    let mut page = head(objects, context) + &outside(context.outside);
    if objects.is_empty() {
        page += &empty_page(context);
        return page;
    }
    if context.sample {
        page += &course(context);
    }
    page += "\nPaste a line into another terminal; its expected result is above it. Ctrl-C ends the lab.\n";
    let dig = dig(context.address);
    for section in examples::sections(objects) {
        if section.examples.is_empty() {
            continue;
        }
        let _ = write!(page, "\n{}\n", section.title);
        for Example { shows, arguments } in section.examples {
            let _ = write!(page, "  # {shows}\n  {dig} {arguments}\n");
        }
    }
    page += &another_zone(&dig, context);
    if let Some(service) = examples::main_service(objects) {
        page += &search_list(&dig, &format!("{}.{}", service.name, service.namespace));
    }
    page
}

fn head(objects: &Objects, context: &LabContext<'_>) -> String {
    let what = if context.sample {
        "a sample cluster"
    } else {
        "your manifests"
    };
    let mut head = format!(
        "lodestone lab: {what}, answered at {} port {}, UDP and TCP.\n",
        context.address.ip(),
        context.address.port()
    );
    let directory = context.directory.display();
    if !objects.is_empty() {
        let _ = writeln!(
            head,
            "{}, {} and {} in {directory}\nEdit those files: changes are served within seconds.",
            count(objects.namespaces, "Namespace"),
            count(objects.services.len(), "Service"),
            count(objects.pods.len(), "Pod"),
        );
    }
    let _ = writeln!(
        head,
        "The Corefile, in a cluster a ConfigMap, is {}: edits to it are applied too.",
        context.corefile.display()
    );
    if let Some(page) = context.page {
        let _ = writeln!(head, "page: http://{page}/");
    }
    for (files, what) in [
        (&objects.unread, "Not valid YAML or JSON, not shown here"),
        (&objects.partly, "Partly invalid; the log names the line"),
    ] {
        for file in files.iter().take(MAX_LISTED) {
            let _ = writeln!(head, "{what}: {file}");
        }
        if let Some(more @ 1..) = files.len().checked_sub(MAX_LISTED) {
            let _ = writeln!(head, "{what}: {more} more files");
        }
    }
    head
}

/// The name servers outside of the cluster.
fn outside(outside: Addresses) -> String {
    let Addresses {
        internet,
        company,
        slow,
        dead,
    } = outside;
    format!(
        "Outside of the cluster the lab answers too, at {}: port {} is the internet (example.com, example.org),\n\
         {} a company's zone (corp.test), {} slow (1.5 s), {} dead (silent).\n",
        internet.ip(),
        internet.port(),
        company.port(),
        slow.port(),
        dead.port()
    )
}

/// How to begin the course, and to go on with it.
fn course(context: &LabContext<'_>) -> String {
    let directory = quoted(&context.directory.display().to_string());
    let program = quoted(context.program);
    format!(
        "\nThe course: twelve exercises in docs/lab.md. Change to the lab's directory, and begin with the first\n  \
         cd {directory}\n  \
         # the goal of exercise 1, and what it still needs\n  \
         {program} lab check 1\n  \
         # how to go on: which exercises are done, and which is next\n  \
         {program} lab check\n"
    )
}

fn empty_page(context: &LabContext<'_>) -> String {
    let directory = context.directory.display();
    format!(
        "\nThere is no Service and no Pod in {directory} yet. Put manifests there (*.yaml, *.yml,\n\
         *.json) and they are answered within a second. Export the objects of a cluster with\n  \
         kubectl get namespaces,services,endpointslices,pods --all-namespaces -o yaml > objects.yaml\n\
         For a sample cluster with queries to try, omit the directory: lodestone lab\n"
    )
}

/// Commands that add a zone to the Corefile and query it.
fn another_zone(dig: &str, context: &LabContext<'_>) -> String {
    let LabContext {
        address, corefile, ..
    } = context;
    let (port, ip) = (address.port(), address.ip());
    let corefile = quoted(&corefile.display().to_string());
    format!(
        "\nA zone of your own (every server block of a Corefile has its own plugins)\n  \
         printf '\\nintranet.test:{port} {{\\n    bind {ip}\\n    hosts {{\\n        192.0.2.80 wiki.intranet.test\\n    }}\\n}}\\n' >> {corefile}\n  \
         # 192.0.2.80, two seconds later; nothing before that, and nothing once those lines are gone\n  \
         {dig} +short wiki.intranet.test\n"
    )
}

/// A path quoted for a shell.
fn quoted(path: &str) -> String {
    let plain = |it: char| it.is_alphanumeric() || "/-_.+".contains(it);
    if path.chars().all(plain) {
        return path.to_owned();
    }
    format!("'{}'", path.replace('\'', r"'\''"))
}

/// Commands that query like a pod, with its complete search list, which `dig` reads only from a
/// file.
fn search_list(dig: &str, name: &str) -> String {
    format!(
        "\nA pod's whole search list (dig reads it from /etc/resolv.conf only, so replace that file in a mount namespace)\n  \
         printf 'search default.svc.cluster.local svc.cluster.local cluster.local\\noptions ndots:5\\n' > /tmp/pod-resolv.conf\n  \
         unshare -rm sh -c 'mount --bind /tmp/pod-resolv.conf /etc/resolv.conf && exec {dig} +search +short {name}'\n"
    )
}

/// The common prefix of all commands.
fn dig(address: SocketAddr) -> String {
    let address = client_address(address);
    format!("dig -p {} @{}", address.port(), address.ip())
}

fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests;
