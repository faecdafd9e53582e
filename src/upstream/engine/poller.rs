//! Waits for several sockets at once: `epoll` on Linux, `poll` elsewhere.

use std::{io, os::fd::AsFd, time::Duration};

use rustix::event::Timespec;

/// What a socket is ready for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    /// The number that it was added under.
    pub(super) token: u64,
    /// Whether it has an error to report.
    pub(super) has_error: bool,
}

/// Events that are taken in one call, at most.
const EVENTS: usize = 16;

fn timespec(timeout: Option<Duration>) -> Option<Timespec> {
    timeout.map(|timeout| Timespec {
        tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    })
}

#[cfg(target_os = "linux")]
pub(super) use self::epoll::Poller;
#[cfg(not(target_os = "linux"))]
pub(super) use self::poll::Poller;

#[cfg(target_os = "linux")]
mod epoll {
    use std::{mem::MaybeUninit, os::fd::OwnedFd};

    use rustix::event::epoll::{self, Event, EventData, EventFlags};

    use super::{AsFd, Duration, EVENTS, Ready, io, timespec};

    /// The sockets that are waited for.
    pub(in super::super) struct Poller(OwnedFd);

    impl Poller {
        pub(in super::super) fn new() -> io::Result<Self> {
            Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
        }

        /// Waits for `socket` to become readable or to have an error from now on. It is removed when it is
        /// closed.
        pub(in super::super) fn add(&mut self, socket: &impl AsFd, token: u64) -> io::Result<()> {
            let data = EventData::new_u64(token);
            Ok(epoll::add(&self.0, socket, data, EventFlags::IN)?)
        }

        /// Does not wait for `socket` any more.
        pub(in super::super) fn remove(&mut self, socket: &impl AsFd, _token: u64) {
            // It fails only where the socket was not waited for.
            let _ = epoll::delete(&self.0, socket);
        }

        /// Waits until a socket is ready or the time is over, and appends those that are to `ready`.
        pub(in super::super) fn wait(
            &mut self,
            timeout: Option<Duration>,
            ready: &mut Vec<Ready>,
        ) -> io::Result<()> {
            let mut room = [MaybeUninit::<Event>::uninit(); EVENTS];
            let timeout = timespec(timeout);
            let events = match epoll::wait(&self.0, &mut room, timeout.as_ref()) {
                Ok((events, _)) => events,
                Err(rustix::io::Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            ready.extend(events.iter().map(|event| Ready {
                token: event.data.u64(),
                has_error: { event.flags }.contains(EventFlags::ERR),
            }));
            Ok(())
        }
    }
}

#[cfg(any(test, not(target_os = "linux")))]
mod poll {
    use std::os::fd::OwnedFd;

    use rustix::event::{PollFd, PollFlags, poll};

    use super::{AsFd, Duration, EVENTS, Ready, io, timespec};

    /// The sockets that are waited for, as duplicates of their descriptors.
    pub(in super::super) struct Poller(Vec<(u64, OwnedFd)>);

    #[cfg_attr(target_os = "linux", allow(clippy::unnecessary_wraps))] // as that of epoll
    impl Poller {
        pub(in super::super) fn new() -> io::Result<Self> {
            Ok(Self(Vec::new()))
        }

        pub(in super::super) fn add(&mut self, socket: &impl AsFd, token: u64) -> io::Result<()> {
            self.0.push((token, socket.as_fd().try_clone_to_owned()?));
            Ok(())
        }

        pub(in super::super) fn remove(&mut self, _socket: &impl AsFd, token: u64) {
            self.0.retain(|(known, _)| *known != token);
        }

        pub(in super::super) fn wait(
            &mut self,
            timeout: Option<Duration>,
            ready: &mut Vec<Ready>,
        ) -> io::Result<()> {
            let sockets = self.0.iter();
            let mut polled: Vec<_> = sockets
                .map(|(_, socket)| PollFd::new(socket, PollFlags::IN))
                .collect();
            match poll(&mut polled, timespec(timeout).as_ref()) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            let found = polled
                .iter()
                .zip(&self.0)
                .filter_map(|(polled, (token, _))| {
                    let flags = polled.revents();
                    (!flags.is_empty()).then_some(Ready {
                        token: *token,
                        has_error: flags.contains(PollFlags::ERR),
                    })
                });
            ready.extend(found.take(EVENTS));
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// The same steps with either kind.
    macro_rules! steps {
        ($poller:ty) => {
            let mut poller = <$poller>::new().unwrap();
            let (one, other) = pair();
            poller.add(&one, 7).unwrap();
            let mut ready = Vec::new();
            poller.wait(Some(Duration::ZERO), &mut ready).unwrap();
            assert!(ready.is_empty());
            other.send(b"x").unwrap();
            poller.wait(None, &mut ready).unwrap();
            let has_error = false;
            assert_eq!(
                ready,
                [Ready {
                    token: 7,
                    has_error
                }]
            );
            ready.clear();
            poller.remove(&one, 7);
            poller.wait(Some(Duration::ZERO), &mut ready).unwrap();
            assert!(ready.is_empty(), "removed");
        };
    }

    fn pair() -> (UdpSocket, UdpSocket) {
        let one = UdpSocket::bind("127.0.0.1:0").unwrap();
        let other = UdpSocket::bind("127.0.0.1:0").unwrap();
        other.connect(one.local_addr().unwrap()).unwrap();
        (one, other)
    }

    #[test]
    fn a_readable_socket_is_reported_by_its_token_until_it_is_removed() {
        steps!(Poller);
        steps!(super::poll::Poller);
    }
}
