//! Files in the form of resolv.conf as lists of upstreams, read again when they change.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use resolv_conf::{Config, ScopedIp};
use tokio::{
    runtime::Handle,
    sync::{Notify, watch},
    task::AbortHandle,
};

use crate::wire::Name;

/// A file is at most so long: a resolv.conf has some hundred octets.
const MAX_FILE: u64 = 64 * 1024;
/// Domains of a search list at most: as many as Kubernetes gives a pod.
const MAX_SEARCH: usize = 32;
/// Editors and ConfigMap updates touch a directory several times in a row.
const SETTLE: Duration = Duration::from_millis(100);

/// The name servers of a file, now and from now on.
#[derive(Debug)]
pub struct ResolvConf {
    servers: watch::Receiver<Vec<IpAddr>>,
    follower: AbortHandle,
    /// Watches for as long as it lives.
    _watcher: Option<RecommendedWatcher>,
}

impl ResolvConf {
    /// Reads the file and begins to watch it. Where it cannot be watched it is served as it was,
    /// and that is said.
    pub fn open(path: &Path, runtime: &Handle) -> io::Result<Self> {
        let (sender, servers) = watch::channel(read_nameservers(path)?);
        let changed = Arc::new(Notify::new());
        let watcher = watch_directory(path, Arc::clone(&changed));
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(
                target: "plugin/forward",
                "{} cannot be watched and changes to it will go unnoticed: {error}",
                path.display()
            );
        });
        let follower = runtime.spawn(follow(path.to_owned(), changed, sender));
        Ok(Self {
            servers,
            follower: follower.abort_handle(),
            _watcher: watcher.ok(),
        })
    }

    /// The list, and word of each change.
    pub fn servers(&self) -> watch::Receiver<Vec<IpAddr>> {
        self.servers.clone()
    }
}

impl Drop for ResolvConf {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// The directory is watched rather than the file: files are replaced, and those of a ConfigMap by
/// a link beside them.
fn watch_directory(path: &Path, changed: Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            changed.notify_one();
        }
    })?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    watcher.watch(directory, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

async fn follow(path: PathBuf, changed: Arc<Notify>, servers: watch::Sender<Vec<IpAddr>>) {
    loop {
        changed.notified().await;
        tokio::time::sleep(SETTLE).await;
        match read_nameservers(&path) {
            Ok(list) => {
                servers.send_if_modified(|known| {
                    let is_new = *known != list;
                    *known = list;
                    is_new
                });
            }
            Err(error) => tracing::warn!(
                target: "plugin/forward",
                "{} cannot be read again, its last servers stay: {error}",
                path.display()
            ),
        }
    }
}

/// The name servers that the file lists, in order. Lines of other words are none of ours, and one
/// that cannot be read loses nothing but itself.
pub fn read_nameservers(path: &Path) -> io::Result<Vec<IpAddr>> {
    let servers = nameservers(&read(path)?);
    if servers.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "no nameservers found",
        ));
    }
    Ok(servers)
}

/// The domains in which the file's reader looks names up, in order. They are those of the last
/// `search` or `domain` line (resolv.conf(5)); what is no name among them is left out, and what
/// comes behind the 32nd.
pub fn read_search(path: &Path) -> io::Result<Vec<Name>> {
    Ok(search(&read(path)?))
}

fn read(path: &Path) -> io::Result<String> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_FILE {
        let text = format!("{length} octets are no resolv.conf");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let octets = std::fs::read(path)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
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

fn nameservers(text: &str) -> Vec<IpAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        // Words behind the address are ignored by resolvers and would be an error to the parser.
        let words: Vec<_> = line.split_whitespace().take(2).collect();
        let ["nameserver", _] = words[..] else {
            continue;
        };
        let Ok(config) = Config::parse(words.join(" ")) else {
            tracing::warn!(target: "plugin/forward", "Not a name server: {line:?}");
            continue;
        };
        for server in config.nameservers {
            let ip = match server {
                ScopedIp::V4(ip) => IpAddr::V4(ip),
                ScopedIp::V6(ip, _) => IpAddr::V6(ip),
            };
            if !servers.contains(&ip) {
                servers.push(ip);
            }
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_unknown_word_does_not_lose_the_file() {
        let text = "# made by hand\n\
                    search a.example b.example\n\
                    options ndots:5 what-is-this edns0\n\
                    nameserver 10.0.0.2 # first\n\
                    frobnicate yes\n\
                    nameserver ten\n\
                    \tnameserver\t2001:db8::53\n\
                    nameserver 10.0.0.2\n\
                    ;nameserver 10.9.9.9\n";
        let expected: Vec<IpAddr> = ["10.0.0.2", "2001:db8::53"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        assert_eq!(nameservers(text), expected);
    }

    #[test]
    fn the_last_line_of_domains_counts() {
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
    fn a_file_without_servers_or_without_end_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("resolv.conf");
        assert!(read_nameservers(&path).is_err());
        std::fs::write(&path, "search x\n").unwrap();
        let error = read_nameservers(&path).unwrap_err();
        assert_eq!(error.to_string(), "no nameservers found");
        std::fs::write(&path, "#".repeat(70_000)).unwrap();
        assert!(read_nameservers(&path).is_err());
    }
}
