//! The objects of a cluster's DNS: from files, or from its API server.

use std::{
    fs,
    io::{self, Read},
    path::Path,
    time::Duration,
};

use serde_json::Value;
use tokio::time::timeout;

use crate::{
    cluster::{ApiAccess, ApiError},
    error_text,
};

/// Maximum size of a file in bytes: more than all objects that are needed can have together.
const MAX_FILE_BYTES: u64 = 32 << 20;

/// Bound on the time for one request, with its connection.
const DEADLINE: Duration = Duration::from_secs(10);

/// Name of the Deployment where none is named.
pub const DEPLOYMENT: &str = "coredns";

/// The label of the pods and of the Service in every cluster.
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");

/// Objects as the API server sends them.
#[derive(Debug, Default)]
pub struct Objects {
    list: Vec<Value>,
    /// What could not be read, and why. Nothing depends on it.
    pub unread: Vec<String>,
}

/// Which Deployment is meant.
#[derive(Clone, Debug)]
pub struct Target {
    /// Its namespace.
    pub namespace: String,
    /// Its name; without one it is `coredns`, or the only one with the label of the cluster's DNS.
    pub name: Option<String>,
}

/// Why there is nothing to report on.
#[derive(Debug, thiserror::Error)]
pub enum ObjectsError {
    #[error("cannot read {0}: {1}")]
    Read(String, String),
    #[error("{0}: {1}")]
    Syntax(String, String),
    #[error(
        "no Deployment {0} in namespace {1}, and none with the label k8s-app=kube-dns\nhelp: name it with --deployment \
         and --namespace"
    )]
    NoDeployment(String, String),
    #[error(
        "several Deployments have the label k8s-app=kube-dns: {0}\nhelp: name one with --deployment"
    )]
    Ambiguous(String),
    #[error(
        "{0} has no ConfigMap with a Corefile, and no Deployment\nhelp: kubectl -n kube-system get configmap,deployment,service,poddisruptionbudget,daemonset -o yaml"
    )]
    Nothing(String),
}

impl Objects {
    /// Reads files as `kubectl get -o yaml` or `-o json` prints them; `-` is standard input.
    pub fn of_files(files: &[std::path::PathBuf]) -> Result<Self, ObjectsError> {
        let mut objects = Self::default();
        for file in files {
            let is_input = file == Path::new("-");
            let name = if is_input {
                "/dev/stdin".to_owned()
            } else {
                file.display().to_string()
            };
            let text = if is_input {
                limited(io::stdin().lock())
            } else {
                fs::File::open(file).and_then(limited)
            };
            let text =
                text.map_err(|error| ObjectsError::Read(name.clone(), error_text::io(&error)))?;
            let documents = documents(&text).map_err(|error| {
                let line = error.lines().next().unwrap_or_default();
                ObjectsError::Syntax(
                    name.clone(),
                    format!("this is neither YAML nor JSON: {line}"),
                )
            })?;
            for document in documents {
                objects.add(document, &name)?;
            }
        }
        Ok(objects)
    }

    /// Adds an object, or the items of a list.
    fn add(&mut self, mut object: Value, origin: &str) -> Result<(), ObjectsError> {
        if object.is_null() {
            return Ok(());
        }
        let kind = text(&object, "/kind").to_owned();
        if kind.is_empty() {
            let why = "not an object of Kubernetes: kind is missing".to_owned();
            return Err(ObjectsError::Syntax(origin.to_owned(), why));
        }
        let Some(of) = kind.strip_suffix("List") else {
            self.list.push(object);
            return Ok(());
        };
        if let Some(Value::Array(items)) = object.get_mut("items").map(Value::take) {
            for mut item in items {
                // Items of a typed list have no kind.
                if text(&item, "/kind").is_empty()
                    && let Some(item) = item.as_object_mut()
                {
                    item.insert("kind".to_owned(), of.into());
                }
                self.add(item, origin)?;
            }
        }
        Ok(())
    }

    /// Reads what is needed from the API server.
    pub async fn of_cluster(access: &ApiAccess, target: &Target) -> Result<Self, ObjectsError> {
        let mut objects = Self::default();
        let namespace = &target.namespace;
        let name = target.name.as_deref().unwrap_or(DEPLOYMENT);
        let required = |what: String| move |error: String| ObjectsError::Read(what, error);
        let deployment = fetch(access, &deployment_path(namespace, name)).await;
        match deployment.map_err(required(format!("Deployment {namespace}/{name}")))? {
            Some(deployment) => objects.add(deployment, "the API server")?,
            None if target.name.is_none() => {
                let (key, value) = DNS_LABEL;
                let path = format!(
                    "/apis/apps/v1/namespaces/{namespace}/deployments?limit=20&labelSelector={key}%3D{value}"
                );
                let list = fetch(access, &path).await;
                let list = list.map_err(required(format!("the Deployments of {namespace}")))?;
                objects.add(list.unwrap_or_default(), "the API server")?;
            }
            None => {}
        }
        let deployment = objects.deployment(target)?;
        let deployment = deployment
            .ok_or_else(|| ObjectsError::NoDeployment(name.to_owned(), namespace.clone()))?;
        let mut maps = super::pod::config_maps(deployment);
        maps.push("node-local-dns".to_owned());
        for map in maps {
            let path = format!("/api/v1/namespaces/{namespace}/configmaps/{map}");
            objects
                .try_add(access, &path, &format!("ConfigMap {map}"))
                .await?;
        }
        let found = objects.list.len();
        let path = format!("/api/v1/namespaces/{namespace}/services/kube-dns");
        objects.try_add(access, &path, "Service kube-dns").await?;
        if objects.list.len() == found {
            let (key, value) = DNS_LABEL;
            let path = format!(
                "/api/v1/namespaces/{namespace}/services?limit=5&labelSelector={key}%3D{value}"
            );
            objects.try_add(access, &path, "Services").await?;
        }
        for (path, what) in [
            (
                format!("/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets?limit=50"),
                "PodDisruptionBudgets",
            ),
            (
                format!("/apis/apps/v1/namespaces/{namespace}/daemonsets/node-local-dns"),
                "DaemonSet node-local-dns",
            ),
            ("/api/v1/nodes?limit=1".to_owned(), "Nodes"),
        ] {
            objects.try_add(access, &path, what).await?;
        }
        Ok(objects)
    }

    /// Adds what there is; what may not be read is noted.
    async fn try_add(
        &mut self,
        access: &ApiAccess,
        path: &str,
        what: &str,
    ) -> Result<(), ObjectsError> {
        match fetch(access, path).await {
            Ok(Some(object)) => self.add(object, "the API server"),
            Ok(None) => Ok(()),
            Err(error) => {
                self.unread.push(format!("{what}: {error}"));
                Ok(())
            }
        }
    }

    /// All objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.list
            .iter()
            .filter(move |object| text(object, "/kind") == kind)
    }

    /// The object of this kind, namespace and name. An object of a file may have no namespace.
    pub fn find(&self, kind: &str, namespace: &str, name: &str) -> Option<&Value> {
        self.list.iter().find(|object| {
            text(object, "/kind") == kind
                && text(object, "/metadata/name") == name
                && ["", namespace].contains(&text(object, "/metadata/namespace"))
        })
    }

    /// The Deployment that is meant.
    pub fn deployment(&self, target: &Target) -> Result<Option<&Value>, ObjectsError> {
        let name = target.name.as_deref().unwrap_or(DEPLOYMENT);
        if let Some(found) = self.find("Deployment", &target.namespace, name) {
            return Ok(Some(found));
        }
        if target.name.is_some() {
            let (name, namespace) = (name.to_owned(), target.namespace.clone());
            return Err(ObjectsError::NoDeployment(name, namespace));
        }
        let (key, value) = DNS_LABEL;
        let labelled = self.of_kind("Deployment").filter(|deployment| {
            let pods = label(deployment, "/spec/template/metadata/labels", key);
            pods == value || label(deployment, "/metadata/labels", key) == value
        });
        let labelled: Vec<&Value> = labelled.collect();
        // Beside the server there may be an autoscaler with the same label.
        let mut servers = labelled.clone();
        servers.retain(|deployment| super::pod::has_corefile(deployment));
        match servers[..] {
            // GKE's kube-dns, which is reported as such.
            [] => Ok(labelled.first().copied()),
            [one] => Ok(Some(one)),
            _ => {
                let names = servers.iter().map(|it| text(it, "/metadata/name"));
                Err(ObjectsError::Ambiguous(
                    names.collect::<Vec<_>>().join(", "),
                ))
            }
        }
    }
}

/// The path of a Deployment.
pub fn deployment_path(namespace: &str, name: &str) -> String {
    format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}")
}

async fn fetch(access: &ApiAccess, path: &str) -> Result<Option<Value>, String> {
    bounded(access.object(path))
        .await
        .map_err(|error| error.to_string())
}

/// A request that fails after some time.
pub async fn bounded<T>(
    request: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, RequestError> {
    match timeout(DEADLINE, request).await {
        Ok(result) => result.map_err(RequestError::Api),
        Err(_) => Err(RequestError::TimedOut),
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error(transparent)]
    Api(ApiError),
    #[error("no answer from the API server in {} s", DEADLINE.as_secs())]
    TimedOut,
}

/// The documents of a file in either syntax.
fn documents(text: &str) -> Result<Vec<Value>, String> {
    if text.trim_start().starts_with('{') {
        let documents = serde_json::Deserializer::from_str(text).into_iter();
        // Otherwise it may be a YAML document in flow style.
        if let Ok(documents) = documents.collect::<Result<_, _>>() {
            return Ok(documents);
        }
    }
    serde_saphyr::from_multiple(text).map_err(|error| error.to_string())
}

fn limited(from: impl Read) -> io::Result<String> {
    let mut text = String::new();
    from.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(text)
}

/// The text at a JSON pointer; empty if there is none.
pub fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// The elements at a JSON pointer; none if there is no array.
pub fn array<'a>(object: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    object
        .pointer(pointer)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// The value of a key in the map at a JSON pointer, such as a label's; empty if there is none.
pub fn label<'a>(object: &'a Value, pointer: &str, key: &str) -> &'a str {
    let map = object.pointer(pointer);
    map.and_then(|map| map.get(key))
        .and_then(Value::as_str)
        .unwrap_or_default()
}
