//! What reads and writes the sockets of plain DNS: one of two kinds of loops, which a flag chooses between.

use std::{io, sync::Arc};

use futures_util::future::{BoxFuture, join_all};
use tokio::{runtime::Handle, time::Instant};

#[cfg(feature = "hickory")]
use super::{BindError, ListenerConfig, hickory::Serving};
use super::{
    bind::BoundSockets, handle::MessageHandler, limits::StreamSettings, proxy::ProxyPolicy,
};
#[cfg(target_os = "linux")]
use super::{proxy::sessions::DatagramProxy, udp};

#[cfg(not(any(target_os = "linux", feature = "hickory")))]
compile_error!("on this system plain DNS needs hickory-server's loops: the feature `hickory`");

#[cfg(target_os = "linux")]
pub(super) use udp::{Thread, drain};

/// No thread reads datagrams on this system.
#[cfg(not(target_os = "linux"))]
pub(super) enum Thread {}

/// There is none to drain.
#[cfg(not(target_os = "linux"))]
pub(super) async fn drain(_: Vec<Thread>, _: Instant) -> bool {
    true
}

/// What reads and writes the sockets of plain DNS, by UDP and TCP. All other transports have one way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoopKind {
    /// Lodestone's own loops, with many datagrams a system call.
    #[cfg(target_os = "linux")]
    #[default]
    Batches,
    /// hickory-server's loops.
    #[cfg(feature = "hickory")]
    #[cfg_attr(not(target_os = "linux"), default)]
    Hickory,
}

/// The loops at the sockets of one listener of plain DNS; those of TCP are among them where they are
/// hickory-server's.
pub(super) enum Loops {
    /// Threads for each address, and what they work with.
    #[cfg(target_os = "linux")]
    Batches(Vec<udp::Threads>, udp::ListenerContext),
    /// Of each address.
    #[cfg(feature = "hickory")]
    Hickory(Vec<Serving>),
}

impl LoopKind {
    /// Whether it can serve a listener.
    #[cfg(feature = "hickory")]
    pub(super) fn check(self, wanted: &ListenerConfig) -> Result<(), BindError> {
        if self == Self::Hickory
            && wanted.listener.scheme == super::Scheme::Dns
            && let Some(why) = super::hickory::refuses(wanted)
        {
            let source = io::Error::new(io::ErrorKind::InvalidInput, why);
            let listener = wanted.listener;
            return Err(BindError::new(listener, listener.address, source));
        }
        Ok(())
    }

    /// Starts the loops of a listener of plain DNS, whose sockets it takes out of `sockets`: those of TCP
    /// remain where it has no loops for them.
    pub(super) fn start(
        self,
        sockets: &mut BoundSockets,
        handler: &MessageHandler,
        (streams, proxy): (StreamSettings, Option<Arc<ProxyPolicy>>),
        runtime: &Handle,
    ) -> io::Result<Loops> {
        let udp = std::mem::take(&mut sockets.udp).into_iter();
        match self {
            #[cfg(target_os = "linux")]
            Self::Batches => {
                // Connections have accept loops of their own.
                let _ = streams;
                let context = udp::ListenerContext {
                    handler: handler.clone(),
                    proxy: DatagramProxy::default(),
                    runtime: runtime.clone(),
                };
                context.proxy.set(proxy);
                let threads = udp.map(|sockets| udp::Threads::start(sockets, &context));
                let threads = threads.collect::<io::Result<_>>()?;
                Ok(Loops::Batches(threads, context))
            }
            #[cfg(feature = "hickory")]
            Self::Hickory => {
                let addresses = udp.zip(std::mem::take(&mut sockets.tcp));
                let serving =
                    addresses.map(|(udp, tcp)| Serving::start(udp, tcp, handler, streams, runtime));
                Ok(Loops::Hickory(serving.collect::<io::Result<_>>()?))
            }
        }
    }
}

impl Loops {
    /// Starts the threads that each address lacks to `count`.
    pub(super) fn start_missing(&self, count: usize) -> io::Result<Vec<Vec<Thread>>> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batches(threads, context) => threads
                .iter()
                .map(|threads| threads.start_missing(count, context))
                .collect(),
            #[cfg(feature = "hickory")]
            Self::Hickory(_) => Ok(Vec::new()),
        }
    }

    /// Changes the settings and takes in the threads that were `missing`; those that are too many are
    /// returned.
    pub(super) fn change(
        &mut self,
        count: usize,
        proxy: Option<Arc<ProxyPolicy>>,
        missing: Vec<Vec<Thread>>,
    ) -> Vec<Thread> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batches(threads, context) => {
                context.proxy.set(proxy);
                let threads = threads.iter_mut().zip(missing);
                threads
                    .flat_map(|(threads, missing)| threads.resize(count, missing))
                    .collect()
            }
            #[cfg(feature = "hickory")]
            Self::Hickory(_) => Vec::new(),
        }
    }

    /// Stops them. The future completes when everything that was asked is answered, at `deadline` at the
    /// latest; whether everything was.
    pub(super) fn drain(self, deadline: Instant) -> BoxFuture<'static, bool> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Batches(threads, _) => all(threads.into_iter().map(|it| it.drain(deadline))),
            #[cfg(feature = "hickory")]
            Self::Hickory(serving) => all(serving.into_iter().map(|it| it.drain(deadline))),
        }
    }
}

/// Whether all of these come out so.
fn all(
    drained: impl Iterator<Item = impl Future<Output = bool> + Send + 'static>,
) -> BoxFuture<'static, bool> {
    let drained = join_all(drained);
    Box::pin(async move { drained.await.into_iter().all(|drained| drained) })
}
