//! Kubernetes objects, reduced to the fields that DNS answers need, and the in-memory state built
//! from them. No DNS here: [`crate::zone`] derives names and records from this state.
//!
//! ```text
//! api (list and watch)   \
//!                         Event -> fold (one task) -> Writer -> Cluster <- readers, lock-free
//! manifests (directory)  /
//! ```
//!
//! `snapshot` keeps the objects in a file, and loads them after a restart until the source has listed its own.

pub mod endpoint;
pub mod error;
pub mod event;
pub mod fold;
pub mod manifests;
pub mod object;
pub mod selector;
pub mod settings;
pub mod snapshot;
pub mod source;
pub mod state;
pub mod stats;

mod address_index;
mod api;
mod decode;
mod intern;
mod invalid;
mod multiset;
mod shards;
mod store;

pub use address_index::{AddressIndex, AddressRole};
pub use api::{ApiAccess, ApiError, NamedService, parse_object, split_list};
pub use endpoint::{Endpoint, EndpointRef, Endpoints, EndpointsIter};
pub use error::SourceError;
pub use event::{Event, Kind, Object, ObjectKey};
pub use fold::{StateWriter, load};
pub use object::{
    EndpointSlice, ExternalAddresses, ImportOrigin, Namespace, ObjectRevision, Pod, PodLabels,
    Port, Protocol, Service, ServiceImport, ServiceKind,
};
pub use selector::{Selector, SelectorError};
pub use settings::{Backend, ClientTls, RateLimits, Settings, SnapshotSettings, Timing};
pub use shards::{BucketRef, Tagged};
pub use source::ClusterSource;
pub use state::{Cluster, LoadedSnapshot, ServiceEntry, ServiceKey};
pub use stats::{Histogram, RequestStats, SnapshotStats, Stats};
