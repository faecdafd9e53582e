//! `lodestone node-address`: adds addresses to the loopback interface, for a node-local server.
//!
//! An init container of the same image runs it, since an image without a shell has no `ip`: the init container has
//! NET_ADMIN, the server does not. Requests are those of rtnetlink(7), an address each: a header (`nlmsghdr`), an
//! `ifaddrmsg` and two attributes. See deploy/overlays/node-local.

use std::{
    io::{self, ErrorKind, Read},
    net::IpAddr,
    process::ExitCode,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::output;
use crate::error_text;

/// Arguments of `lodestone node-address`.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Addresses, such as 169.254.20.10
    #[arg(required = true, value_name = "ADDRESS")]
    addresses: Vec<IpAddr>,
}

/// Index of the loopback interface: the first of every network namespace.
const LOOPBACK: u32 = 1;

/// Adds the addresses. Those that the interface has already are left as they are. Exit code 0, or 1 after the first
/// address that cannot be added.
pub fn run(arguments: &Arguments) -> ExitCode {
    for &address in &arguments.addresses {
        if let Err(error) = check(address).and_then(|()| add(address)) {
            let why = error_text::io(&error);
            let advice = match error.kind() {
                ErrorKind::PermissionDenied => "; this requires the capability NET_ADMIN",
                _ => "",
            };
            output::print_error(format!(
                "error: cannot add {address} to the loopback interface: {why}{advice}"
            ));
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Refuses addresses that no node can have for itself, which the kernel accepts in part.
fn check(address: IpAddr) -> io::Result<()> {
    if address.is_unspecified() || address.is_multicast() {
        return Err(io::Error::new(
            ErrorKind::InvalidInput,
            "not an address of one machine",
        ));
    }
    Ok(())
}

fn add(address: IpAddr) -> io::Result<()> {
    let family = Domain::from(libc::AF_NETLINK);
    let protocol = Protocol::from(libc::NETLINK_ROUTE);
    let mut socket = Socket::new(family, Type::RAW, Some(protocol))?;
    // Without a destination, a message is for the kernel.
    socket.send(&request(address))?;
    let mut reply = [0; 512];
    let length = socket.read(&mut reply)?;
    match acknowledged(&reply[..length]) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        result => result,
    }
}

/// An RTM_NEWADDR message for the loopback interface.
fn request(address: IpAddr) -> Vec<u8> {
    let (family, prefix, bytes) = match address {
        IpAddr::V4(address) => (INET, 32_u8, address.octets().to_vec()),
        IpAddr::V6(address) => (INET6, 128, address.octets().to_vec()),
    };
    // Both lengths of an address are multiples of the alignment, 4 bytes.
    let attribute = 4 + u16::from(prefix / 8);
    let length = 16 + 8 + 2 * u32::from(attribute);
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(libc::RTM_NEWADDR.to_ne_bytes());
    message.extend(FLAGS.to_ne_bytes());
    // Sequence number and port: one request, one reply.
    message.extend([0; 8]);
    message.extend([family, prefix, NO_DAD, libc::RT_SCOPE_HOST]);
    message.extend(LOOPBACK.to_ne_bytes());
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        message.extend(attribute.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(&bytes);
    }
    message
}

/// Reads the acknowledgement: a header, and the negative error number, 0 for success.
fn acknowledged(reply: &[u8]) -> io::Result<()> {
    let kind = reply.get(4..6).and_then(|it| it.try_into().ok());
    let code = reply.get(HEADER..HEADER + 4);
    let code = code.and_then(|it| it.try_into().ok());
    match (kind.map(u16::from_ne_bytes), code.map(i32::from_ne_bytes)) {
        (Some(kind), Some(0)) if i32::from(kind) == libc::NLMSG_ERROR => Ok(()),
        (Some(kind), Some(code)) if i32::from(kind) == libc::NLMSG_ERROR => {
            Err(io::Error::from_raw_os_error(code.saturating_neg()))
        }
        _ => Err(io::Error::new(
            ErrorKind::InvalidData,
            "the reply of the kernel is not an acknowledgement",
        )),
    }
}

/// Length of `nlmsghdr` in bytes.
const HEADER: usize = 16;

/// NLM_F_REQUEST, NLM_F_ACK, NLM_F_EXCL and NLM_F_CREATE.
const FLAGS: u16 = 0x1 | 0x4 | 0x200 | 0x400;

/// AF_INET.
const INET: u8 = 2;

/// AF_INET6.
const INET6: u8 = 10;

/// `IFA_F_NODAD`: no duplicate address detection, which the loopback interface does not have, and during which an
/// IPv6 address cannot be bound.
const NO_DAD: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_a_request_are_those_of_its_parts() {
        for (address, length) in [("169.254.20.10", 40), ("fd00::10", 64)] {
            let message = request(address.parse().unwrap());
            assert_eq!(message.len(), length);
            assert_eq!(message[..4], u32::try_from(length).unwrap().to_ne_bytes());
        }
    }

    #[test]
    fn acknowledgements_are_read() {
        let reply = |kind: u16, code: i32| {
            let mut reply = vec![0; 4];
            reply.extend(kind.to_ne_bytes());
            reply.extend([0; 10]);
            reply.extend(code.to_ne_bytes());
            reply
        };
        assert!(acknowledged(&reply(2, 0)).is_ok());
        let error = acknowledged(&reply(2, -libc::EPERM)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        for wrong in [
            &reply(3, 0),
            &reply(2, i32::MIN),
            &[][..],
            &reply(2, 0)[..18],
        ] {
            assert!(acknowledged(wrong).is_err(), "{wrong:?}");
        }
    }
}
