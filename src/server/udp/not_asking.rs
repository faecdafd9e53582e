//! Where a thread cannot wait for clients and upstreams at once, all questions go to those that wait.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Instant,
};

use super::{Scratch, Wait, Waits};
use crate::metrics::Metrics;

/// Nothing is asked by the thread itself.
pub(super) struct Asking;

impl Asking {
    pub(super) fn new(_: &Arc<UdpSocket>, _: bool, _: &Arc<Metrics>) -> Self {
        Self
    }

    pub(super) fn is_idle(&self) -> bool {
        true
    }

    pub(super) fn push(&mut self, wait: Box<Wait>, _: SocketAddr, _: Instant) -> Option<Box<Wait>> {
        Some(wait)
    }

    pub(super) fn flush(&mut self, _: &mut Waits) {}

    pub(super) fn turn(&mut self, _: &mut Scratch, _: &mut Waits) -> bool {
        true
    }

    pub(super) fn sweep(&mut self, _: &mut Waits) {}

    pub(super) fn close(&mut self) {}
}
