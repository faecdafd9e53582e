//! Errors of starting a source.

use crate::error_text;
use std::path::PathBuf;

/// Why a source cannot be started: its settings are unusable. Transient conditions, such as an API
/// server that is down, are not errors: the source retries.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// No in-cluster environment variables, and no other source is configured.
    #[error(
        "this is no pod of a cluster (KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not \
         set), and no other source is given. Inside 'kubernetes {{ }}' write one of: \
         kubeconfig FILE, endpoint URL, manifests DIR"
    )]
    NoCluster,
    /// The service account's files or the environment variables are unusable.
    #[error(
        "the pod's service account cannot be used: {0}. Its token, ca.crt and namespace are \
         expected in /var/run/secrets/kubernetes.io/serviceaccount (is automountServiceAccountToken \
         off?)"
    )]
    InCluster(String),
    /// The kubeconfig is unusable: file, reason.
    #[error("kubeconfig {0}: {1}")]
    Kubeconfig(PathBuf, String),
    /// The bearer token is unusable: where it comes from, reason.
    #[error("the token cannot be used: {0}: {1}")]
    Token(String, String),
    /// The CA file contains no certificate.
    #[error("the file of the certificate authority holds no certificate in PEM form")]
    Authority,
    /// A file of the `tls` property has no usable item of the expected kind.
    #[error("{0}: no usable {1} in PEM form")]
    Pem(PathBuf, &'static str),
    /// The private key's algorithm is not supported.
    #[error("the private key in {0} cannot be used: keys are {keys}", keys = crate::trust::KEYS)]
    Key(PathBuf),
    /// The `endpoint` URL is malformed.
    #[error("endpoint {0:?} is not a URL of the form https://HOST:PORT")]
    Endpoint(String),
    /// The client cannot be built from its certificates and key.
    #[error("connection to the API server: {0}")]
    Client(String),
    /// A configured file cannot be read.
    #[error("cannot read {}: {}", .0.display(), error_text::io(.1))]
    Read(PathBuf, std::io::Error),
    /// The manifests directory cannot be read.
    #[error("manifests: cannot read directory {}: {}", .0.display(), error_text::io(.1))]
    Directory(PathBuf, std::io::Error),
}
