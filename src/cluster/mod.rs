//! What the cluster says: its objects, cut down to what names need, and how they are kept.
//! There is no DNS here; [`crate::zone`] makes names and records of it.
//!
//! ```text
//! api (list and watch)   \
//!                         Event -> fold (one task) -> Writer -> Cluster <- readers, without locks
//! manifests (directory)  /
//! ```

pub mod endpoint;
pub mod event;
pub mod fold;
pub mod manifests;
pub mod object;
pub mod selector;
pub mod settings;
pub mod source;
pub mod state;
pub mod stats;

mod api;
mod decode;
mod flaw;
mod intern;
mod known;
mod named;
mod ordered;
mod shards;

pub use endpoint::{Endpoint, Endpoints, EndpointsIter, SeenEndpoint};
pub use event::{Event, Key, Kind, Object};
pub use fold::{Writer, load};
pub use named::{Named, NamedBy};
pub use object::{
    External, ImportedFrom, Namespace, Pod, PodLabels, Port, Protocol, Service, ServiceImport,
    ServiceKind, Slice,
};
pub use selector::{Selector, SelectorError};
pub use settings::{Limits, Origin, Settings, Timing, Tls};
pub use shards::{Found, Tagged};
pub use source::{Source, SourceError};
pub use state::{Cluster, Entry, EntryKey};
pub use stats::{Histogram, Requests, Stats};
