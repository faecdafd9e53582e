//! One copy of a zone, and the task that looks after it.

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

/// Between two attempts to fetch the first copy.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(10));
/// The masters are not asked more often than this, whatever the SOA record or notifications say.
const LEAST_PAUSE: Duration = Duration::from_secs(1);

/// A copy that is looked after until it is dropped.
pub struct Copied {
    held: Arc<Held>,
    masters: Arc<[SocketAddr]>,
    news: Arc<Notify>,
    // Ends what it holds when it goes.
    _keeping: JoinSet<()>,
}

impl Copied {
    /// Begins to fetch the zone from these servers.
    pub fn start(zone: Name, masters: Arc<[SocketAddr]>, runtime: &Handle) -> Self {
        let held = Arc::new(Held::new(zone));
        let news = Arc::new(Notify::new());
        let keeper = Keeper {
            held: Arc::clone(&held),
            masters: Arc::clone(&masters),
            news: Arc::clone(&news),
            trouble: String::new(),
        };
        let mut keeping = JoinSet::new();
        keeping.spawn_on(keeper.run(), runtime);
        Self {
            held,
            masters,
            news,
            _keeping: keeping,
        }
    }

    /// Where the copy is.
    pub fn held(&self) -> &Arc<Held> {
        &self.held
    }

    /// Somebody says that the zone has changed: a master is believed, and asked soon.
    pub fn notified(&self, client: IpAddr) -> Rcode {
        let zone = self.held.apex();
        if self
            .masters
            .iter()
            .all(|master| master.ip().to_canonical() != client)
        {
            tracing::info!("{client} notifies of {zone} and is no master of it");
            return Rcode::REFUSED;
        }
        tracing::debug!("{client} notifies of {zone}");
        self.news.notify_one();
        Rcode::NOERROR
    }
}

/// What the task of a copy knows.
struct Keeper {
    held: Arc<Held>,
    masters: Arc<[SocketAddr]>,
    news: Arc<Notify>,
    /// What was last said to be wrong.
    trouble: String,
}

impl Keeper {
    async fn run(mut self) {
        let mut backoff = BACKOFF;
        while !self.refresh().await {
            tokio::select! {
                () = sleep(backoff.delay()) => {}
                () = self.news.notified() => sleep(LEAST_PAUSE).await,
            }
        }
        loop {
            self.serve().await;
        }
    }

    /// Waits for as long as the copy is good, and refreshes it, be it with several tries (RFC 1034
    /// §4.3.5).
    async fn serve(&mut self) {
        let Some(zone) = self.held.zone() else {
            return;
        };
        let timers = zone.timers();
        drop(zone);
        let seconds = |seconds: u32| Duration::from_secs(seconds.into()).max(LEAST_PAUSE);
        let expires = Instant::now() + seconds(timers.expire);
        let mut expired = false;
        let mut next = Instant::now() + seconds(timers.refresh);
        loop {
            tokio::select! {
                () = sleep_until(next) => {}
                () = self.news.notified() => {}
                () = sleep_until(expires), if !expired => {
                    expired = true;
                    let zone = self.held.apex();
                    tracing::error!("the copy of {zone} is too old to be served");
                    self.held.expire();
                    continue;
                }
            }
            if self.refresh().await {
                // However many notifications come, the masters are left alone in between.
                sleep(LEAST_PAUSE).await;
                return;
            }
            next = Instant::now() + seconds(timers.retry);
        }
    }

    /// Asks the masters one after the other; true once one of them has been heard and the copy is
    /// the newest that it has.
    async fn refresh(&mut self) -> bool {
        let mut trouble = String::new();
        for master in &*self.masters {
            match self.ask(*master).await {
                Ok(()) => {
                    self.trouble.clear();
                    return true;
                }
                Err(error) => {
                    trouble = format!("{master}: {error}");
                }
            }
        }
        // Once for each kind of trouble, not once for each try.
        if trouble != self.trouble {
            let zone = self.held.apex();
            tracing::warn!("zone {zone} cannot be fetched: {trouble}");
        }
        self.trouble = trouble;
        false
    }

    async fn ask(&self, master: SocketAddr) -> Result<(), FetchError> {
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
