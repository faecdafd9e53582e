//! stub
use super::event::Event;
use super::settings::Settings;
use super::source::SourceError;
use std::path::Path;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

pub(super) fn start(
    directory: &Path,
    settings: &Settings,
    events: mpsc::Sender<Event>,
    tasks: &mut JoinSet<()>,
    runtime: &Handle,
) -> Result<(), SourceError> {
    let _ = (directory, settings, events, tasks, runtime);
    Ok(())
}
