//! One secondary zone, and the task that refreshes it (RFC 1034 section 4.3.5).

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::Notify,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::fetch::{self, FetchError};
use crate::{
    backoff::Backoff,
    plugin::authority::Held,
    wire::{Name, Rcode, is_later},
};

/// Delay between attempts to transfer the zone for the first time.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// Minimum interval between refreshes, regardless of the SOA record's timers and of notifications.
const MIN_REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// A secondary zone, refreshed until it is dropped.
pub struct SecondaryZone {
    held: Arc<Held>,
    masters: Arc<[SocketAddr]>,
    changed: Arc<Notify>,
    // Aborts the refresh task when dropped.
    _refreshing: JoinSet<()>,
}

impl SecondaryZone {
    /// Starts transferring the zone from these servers.
    pub fn start(zone: Name, masters: Arc<[SocketAddr]>, runtime: &Handle) -> Self {
        let held = Arc::new(Held::new(zone));
        let changed = Arc::new(Notify::new());
        let task = RefreshTask {
            held: Arc::clone(&held),
            masters: Arc::clone(&masters),
            changed: Arc::clone(&changed),
            last_error: String::new(),
        };
        let mut refreshing = JoinSet::new();
        refreshing.spawn_on(task.run(), runtime);
        Self {
            held,
            masters,
            changed,
            _refreshing: refreshing,
        }
    }

    /// The zone's current copy.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Handles a NOTIFY: schedules a refresh if it is from a master, and rejects it otherwise (RFC
    /// 1996 section 3.10).
    pub fn notified(&self, client: IpAddr) -> Rcode {
        let zone = self.held.apex();
        if self
            .masters
            .iter()
            .all(|master| master.ip().to_canonical() != client)
        {
            tracing::info!("NOTIFY for {zone} from {client} refused: not one of its masters");
            return Rcode::REFUSED;
        }
        tracing::debug!("NOTIFY for {zone} from {client}");
        self.changed.notify_one();
        Rcode::NOERROR
    }
}

/// The state of the refresh task.
struct RefreshTask {
    held: Arc<Held>,
    masters: Arc<[SocketAddr]>,
    changed: Arc<Notify>,
    /// The last logged error; empty after a success.
    last_error: String,
}

impl RefreshTask {
    async fn run(mut self) {
        let mut backoff = BACKOFF;
        while !self.refresh().await {
            tokio::select! {
                () = sleep(backoff.delay()) => {}
                () = self.changed.notified() => sleep(MIN_REFRESH_INTERVAL).await,
            }
        }
        loop {
            self.serve().await;
        }
    }

    /// Runs the SOA timers until the zone is refreshed: waits for `refresh`, then tries every
    /// `retry`, and expires the zone after `expire` (RFC 1034 section 4.3.5).
    async fn serve(&mut self) {
        let Some(zone) = self.held.zone() else {
            return;
        };
        let timers = zone.timers();
        drop(zone);
        let seconds = |seconds: u32| Duration::from_secs(seconds.into()).max(MIN_REFRESH_INTERVAL);
        let expires = Instant::now() + seconds(timers.expire);
        let mut expired = false;
        let mut next = Instant::now() + seconds(timers.refresh);
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.changed.notified() => {}
                () = sleep_until(expires), if !expired => {
                    expired = true;
                    let zone = self.held.apex();
                    tracing::error!("the copy of {zone} has expired and is no longer served");
                    self.held.expire();
                    continue;
                }
            }
            if self.refresh().await {
                // Limits the rate of refreshes, however many notifications arrive.
                sleep(MIN_REFRESH_INTERVAL).await;
                return;
            }
            next = Instant::now() + seconds(timers.retry);
        }
    }

    /// Queries the masters in order. Returns true once one of them has answered and the zone is up
    /// to date with it.
    async fn refresh(&mut self) -> bool {
        let mut failure = String::new();
        for master in &*self.masters {
            match self.refresh_from(*master).await {
                Ok(()) => {
                    self.last_error.clear();
                    return true;
                }
                Err(error) => {
                    failure = format!("{master}: {error}");
                }
            }
        }
        // Logged once per distinct error, not once per attempt.
        if failure != self.last_error {
            let zone = self.held.apex();
            tracing::warn!("zone {zone} cannot be transferred: {failure}");
        }
        self.last_error = failure;
        false
    }

    async fn refresh_from(&self, master: SocketAddr) -> Result<(), FetchError> {
        let apex = self.held.apex().to_name();
        if let Some(zone) = self.held.zone() {
            let serial = fetch::serial(master, apex).await?;
            if !is_later(serial, zone.timers().serial) {
                self.held.renew();
                return Ok(());
            }
        }
        let zone = fetch::zone(master, apex).await?;
        let (serial, records) = (zone.timers().serial, zone.records());
        tracing::info!("zone {apex} from {master}: serial {serial}, {records} records");
        self.held.put(zone);
        Ok(())
    }
}
