//! Files in the format of resolv.conf as lists of upstreams, reread when they change.

use std::{
    io,
    path::{Path, PathBuf},
};

use tokio::{runtime::Handle, sync::watch, task::AbortHandle};

use crate::{
    error_text,
    files::{Changes, directory_of, not_a_pipe},
    interfaces::{HostAddress, lacks_interface},
    wire::Name,
};

/// Bound on the bytes of a file; a resolv.conf has some hundred.
const MAX_FILE: u64 = 64 * 1024;
/// Bound on the domains of a search list: as many as Kubernetes allows a pod.
const MAX_SEARCH: usize = 32;

/// The current name servers of a file, which is watched.
#[derive(Debug)]
pub struct ResolvConf {
    servers: watch::Receiver<Vec<HostAddress>>,
    follower: AbortHandle,
}

impl ResolvConf {
    /// Reads the file and watches it. If it cannot be watched, its present content stays in use, with a
    /// warning. It may list no servers yet.
    pub fn open(path: &Path, runtime: &Handle) -> io::Result<Self> {
        let found = read_nameservers(path)?;
        if found.is_empty() {
            let path = path.display();
            tracing::warn!(target: "plugin/forward", "{path}: no nameservers found");
        }
        let (sender, servers) = watch::channel(found);
        let changes = watch(path).inspect_err(|error| {
            tracing::warn!(
                target: "plugin/forward",
                "{} cannot be watched and changes to it will go unnoticed: {}",
                path.display(),
                error_text::watch(error)
            );
        });
        let changes = changes.unwrap_or_default();
        let follower = runtime.spawn(follow(path.to_owned(), changes, sender));
        Ok(Self {
            servers,
            follower: follower.abort_handle(),
        })
    }

    /// A receiver of the list and its changes.
    pub fn servers(&self) -> watch::Receiver<Vec<HostAddress>> {
        self.servers.clone()
    }
}

impl Drop for ResolvConf {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

fn watch(path: &Path) -> notify::Result<Changes> {
    let mut changes = Changes::new()?;
    changes.watch(&directory_of(path))?;
    Ok(changes)
}

async fn follow(path: PathBuf, mut changes: Changes, servers: watch::Sender<Vec<HostAddress>>) {
    loop {
        changes.next().await;
        let read = read_nameservers(&path).and_then(|list| {
            let is_lost = list.is_empty() && !servers.borrow().is_empty();
            let lost = || io::Error::new(io::ErrorKind::InvalidData, "no nameservers found");
            if is_lost { Err(lost()) } else { Ok(list) }
        });
        match read {
            Ok(list) => {
                servers.send_if_modified(|known| {
                    let is_new = *known != list;
                    *known = list;
                    is_new
                });
            }
            Err(error) => tracing::warn!(
                target: "plugin/forward",
                "{} cannot be used, its last servers stay: {}",
                path.display(),
                error_text::io(&error)
            ),
        }
    }
}

/// The name servers that the file lists, in order, possibly none. Other keywords and unparsable lines are
/// skipped.
pub fn read_nameservers(path: &Path) -> io::Result<Vec<HostAddress>> {
    Ok(nameservers(&read(path)?))
}

/// What `nameserver` lines have in place of an address.
pub fn read_invalid_nameservers(path: &Path) -> io::Result<Vec<String>> {
    let text = read(path)?;
    let words = text.lines().map(str::split_whitespace);
    let named = words.filter_map(|mut words| match (words.next(), words.next()) {
        (Some("nameserver"), word) => Some(word.unwrap_or_default()),
        _ => None,
    });
    let invalid = named.filter(|word| word.parse::<HostAddress>().is_err());
    Ok(invalid.map(str::to_owned).collect())
}

/// The search list: the domains of the last `search` or `domain` line (resolv.conf(5)), in order. Invalid
/// names are skipped, and domains beyond the 32nd.
pub fn read_search(path: &Path) -> io::Result<Vec<Name>> {
    Ok(search(&read(path)?))
}

/// The words of the `options` lines, in order, which accumulate.
pub fn read_options(path: &Path) -> io::Result<Vec<String>> {
    Ok(options(&read(path)?))
}

fn options(text: &str) -> Vec<String> {
    let words = text.lines().map(str::split_whitespace);
    let lines = words.filter_map(|mut words| (words.next() == Some("options")).then_some(words));
    lines.flatten().map(str::to_owned).collect()
}

fn read(path: &Path) -> io::Result<String> {
    not_a_pipe(path)?;
    let length = std::fs::metadata(path)?.len();
    if length > MAX_FILE {
        let text = format!("{length} bytes are too many for a resolv.conf");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let bytes = std::fs::read(path)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn search(text: &str) -> Vec<Name> {
    let mut domains: Vec<Name> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let count = match words.next() {
            Some("search") => MAX_SEARCH,
            Some("domain") => 1,
            _ => continue,
        };
        domains.clear();
        for word in words.take(count) {
            match Name::parse(word) {
                Ok(name) if !domains.contains(&name.to_lower()) => domains.push(name.to_lower()),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(target: "resolv.conf", "{word:?} is no domain: {error}");
                }
            }
        }
    }
    domains
}

fn nameservers(text: &str) -> Vec<HostAddress> {
    let mut servers: Vec<HostAddress> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        // Resolvers ignore words after the address.
        let (Some("nameserver"), Some(word)) = (words.next(), words.next()) else {
            continue;
        };
        match word.parse() {
            Ok(server) if servers.contains(&server) => {}
            Ok(server) => {
                if lacks_interface(server.with_port(53)) {
                    tracing::warn!(
                        target: "plugin/forward",
                        "A link-local name server cannot be reached without its interface: {line:?}"
                    );
                }
                servers.push(server);
            }
            Err(error) => {
                tracing::warn!(target: "plugin/forward", "Not a name server: {line:?}: {error}");
            }
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    #[test]
    fn unknown_keywords_and_invalid_lines_are_skipped() {
        let text = "# made by hand\n\
                    search a.example b.example\n\
                    options ndots:5 what-is-this edns0\n\
                    nameserver 10.0.0.2 # first\n\
                    frobnicate yes\n\
                    nameserver ten\n\
                    \tnameserver\t2001:db8::53\n\
                    nameserver 10.0.0.2\n\
                    nameserver fe80::1%7\n\
                    nameserver fe80::1%8\n\
                    nameserver fe80::1%no-such-interface\n\
                    ;nameserver 10.9.9.9\n";
        let expected: Vec<HostAddress> = ["10.0.0.2", "2001:db8::53", "fe80::1%7", "fe80::1%8"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(nameservers(text), expected);
    }

    #[test]
    fn the_scope_of_a_link_local_server_is_kept() {
        let servers = nameservers("nameserver fe80::1%lo\nnameserver fe80::1\n");
        assert_eq!(servers.len(), 2);
        let SocketAddr::V6(scoped) = servers[0].with_port(53) else {
            panic!("{servers:?}");
        };
        assert!(scoped.scope_id() > 0);
    }

    #[test]
    fn the_last_search_or_domain_line_applies() {
        let read = |text| {
            let names = search(text);
            let names: Vec<String> = names.iter().map(Name::to_string).collect();
            names.join(" ")
        };
        assert_eq!(
            read("search A.example b.example. a.example\n"),
            "a.example. b.example."
        );
        assert_eq!(read("search a.example\nsearch b..c d\n"), "d.");
        assert_eq!(read("search a.example\ndomain b.example c\n"), "b.example.");
        assert_eq!(read("nameserver 10.0.0.1\n# search a\n"), "");
    }

    #[test]
    fn lines_without_an_address_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        std::fs::write(&path, "nameserver ten\nnameserver\nnameserver 10.0.0.2 x\n").unwrap();
        assert_eq!(read_invalid_nameservers(&path).unwrap(), ["ten", ""]);
    }

    #[test]
    fn options_of_all_lines_are_listed() {
        let text = "options ndots:5 edns0\n# options a\nsearch options\noptions timeout:1\n";
        assert_eq!(options(text), ["ndots:5", "edns0", "timeout:1"]);
    }

    #[test]
    fn a_file_without_servers_is_empty_and_an_oversized_one_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        assert!(read_nameservers(&path).is_err());
        std::fs::write(&path, "search x\n").unwrap();
        assert_eq!(read_nameservers(&path).unwrap(), []);
        std::fs::write(&path, "#".repeat(70_000)).unwrap();
        assert!(read_nameservers(&path).is_err());
    }
}
