//! The Unix socket of the control API.
//!
//! By default it has an abstract name (unix(7)), `@lodestone/PID/RANDOM`: that needs no file, so it works on a
//! read-only root file system and in a Deployment that only changes its image. Abstract names are visible in
//! the whole network namespace, that is the pod, and have no permissions, so both sides check the other's user:
//! the server accepts its own user and root, the client trusts a server of its own user or, as root, any.

use std::{
    fmt,
    io::{self, ErrorKind},
    os::unix::net::{UnixListener as StdListener, UnixStream as StdStream},
    path::{Path, PathBuf},
    str::FromStr,
};

use tokio::net::{UnixListener, UnixStream, unix::UCred};

/// The beginning of abstract names.
#[cfg(target_os = "linux")]
const PREFIX: &str = "lodestone/";

/// An address of the control API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// An abstract name of the process's own. Only on Linux.
    Automatic,
    /// This abstract name, without the `@`. Only on Linux.
    Abstract(String),
    /// A file, which is replaced if no process listens there.
    Path(PathBuf),
}

/// Text that is no address of a socket.
#[derive(Debug, thiserror::Error)]
#[error("a socket is a path or, with @ before it, an abstract name")]
pub struct AddressError;

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix('@') {
            Some("") => Err(AddressError),
            Some(name) => Ok(Self::Abstract(name.to_owned())),
            None if text.is_empty() => Err(AddressError),
            None => Ok(Self::Path(text.into())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Automatic => out.write_str("(automatic)"),
            Self::Abstract(name) => write!(out, "@{name}"),
            Self::Path(path) => path.display().fmt(out),
        }
    }
}

/// Binds a listener. Call within a runtime.
pub(super) fn bind(address: &Address) -> io::Result<UnixListener> {
    let listener = match address {
        Address::Path(path) => bind_path(path)?,
        Address::Abstract(name) => bind_abstract(name)?,
        Address::Automatic => bind_automatic()?,
    };
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

fn bind_path(path: &Path) -> io::Result<StdListener> {
    use std::os::unix::fs::PermissionsExt;
    let listener = match StdListener::bind(path) {
        // Left behind by a process that was killed, unless something answers.
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            if StdStream::connect(path).is_ok() {
                return Err(error);
            }
            std::fs::remove_file(path)?;
            StdListener::bind(path)?
        }
        bound => bound?,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

#[cfg(target_os = "linux")]
fn bind_automatic() -> io::Result<StdListener> {
    // A pod of the host's network shares its names with other pods, in which the process id can be the same.
    let (process, random) = (std::process::id(), rand::random::<u32>());
    bind_abstract(&format!("{PREFIX}{process}/{random:08x}"))
}

#[cfg(not(target_os = "linux"))]
fn bind_automatic() -> io::Result<StdListener> {
    Err(io::Error::other(
        "abstract names exist on Linux only: name a path",
    ))
}

#[cfg(target_os = "linux")]
fn bind_abstract(name: &str) -> io::Result<StdListener> {
    StdListener::bind_addr(&abstract_address(name)?)
}

#[cfg(not(target_os = "linux"))]
fn bind_abstract(_: &str) -> io::Result<StdListener> {
    bind_automatic()
}

#[cfg(target_os = "linux")]
fn abstract_address(name: &str) -> io::Result<std::os::unix::net::SocketAddr> {
    use std::os::{linux::net::SocketAddrExt, unix::net::SocketAddr};
    SocketAddr::from_abstract_name(name)
}

/// Connects to a server of a user that can be trusted.
///
/// # Errors
/// There is no server, or another user runs it.
pub(super) async fn connect(address: &Address) -> io::Result<UnixStream> {
    let stream = match address {
        Address::Path(path) => UnixStream::connect(path).await?,
        #[cfg(target_os = "linux")]
        Address::Abstract(name) => {
            let stream = StdStream::connect_addr(&abstract_address(name)?)?;
            stream.set_nonblocking(true)?;
            UnixStream::from_std(stream)?
        }
        _ => {
            return Err(bind_automatic()
                .err()
                .unwrap_or_else(|| ErrorKind::Unsupported.into()));
        }
    };
    let own = own_user();
    let server = stream.peer_cred()?.uid();
    if own == 0 || server == own {
        return Ok(stream);
    }
    let why = format!("user {server} runs that server, and this is user {own}");
    Err(io::Error::new(ErrorKind::PermissionDenied, why))
}

/// Whether a client may use the API: the process's own user, and root.
pub(super) fn is_permitted(client: UCred) -> bool {
    client.uid() == own_user() || client.uid() == 0
}

/// The effective user of this process.
fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// The abstract names of all servers in this network namespace, of whatever user.
#[cfg(target_os = "linux")]
pub fn running() -> Vec<Address> {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let names = table.lines().filter_map(|line| {
        // Num RefCount Protocol Flags Type St Inode Path
        let mut fields = line.split_ascii_whitespace().skip(3);
        let is_listening = fields.next() == Some("00010000");
        let name = fields.nth(3)?.strip_prefix('@')?;
        (is_listening && name.starts_with(PREFIX)).then(|| Address::Abstract(name.to_owned()))
    });
    names.collect()
}

/// None: abstract names exist on Linux only.
#[cfg(not(target_os = "linux"))]
pub fn running() -> Vec<Address> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_automatic_name_is_found_and_answers() {
        let before = running();
        let _listener = bind(&Address::Automatic).unwrap();
        let own = format!("@{PREFIX}{}/", std::process::id());
        let found = running().into_iter().filter(|it| !before.contains(it));
        let found: Vec<_> = found
            .filter(|it| it.to_string().starts_with(&own))
            .collect();
        let mut connected = 0;
        for address in &found {
            connected += usize::from(connect(address).await.is_ok());
        }
        assert_ne!(connected, 0, "{found:?}");
    }

    #[tokio::test]
    async fn a_file_left_behind_is_replaced_and_a_served_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let address = Address::Path(directory.path().join("socket"));
        drop(bind(&address).unwrap());
        let _listener = bind(&address).unwrap();
        assert_eq!(bind(&address).unwrap_err().kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn addresses_are_parsed_and_printed() {
        for text in ["/run/lodestone.sock", "@lodestone/1/00ff"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert!("".parse::<Address>().is_err());
        assert!("@".parse::<Address>().is_err());
    }
}
