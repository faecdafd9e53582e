//! TLS configuration of the metrics page, from the file of `prometheus { tls FILE }`, in the format
//! shared by Prometheus exporters (`tls_server_config`).
//!
//! Unsupported settings (passwords, cipher lists, ...) are refused.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::CertificateDer,
    server::danger::ClientCertVerifier,
    version::{TLS12, TLS13},
};
use serde::Deserialize;

use crate::{
    error_text,
    files::not_a_pipe,
    pem,
    trust::{self, Trusted},
};

/// Why the TLS configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Cause.
        reason: String,
    },
    /// A setting is invalid or not supported.
    #[error("{path}: {reason}")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Cause.
        reason: String,
    },
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::other(error)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebConfig {
    tls_server_config: TlsServerConfig,
}

/// Paths are relative to the file's directory.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsServerConfig {
    cert_file: PathBuf,
    key_file: PathBuf,
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    client_auth_type: ClientAuth,
    #[serde(default)]
    min_version: Version,
    max_version: Option<Version>,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq)]
enum ClientAuth {
    #[default]
    #[serde(rename = "NoClientCert", alias = "")]
    None,
    #[serde(rename = "VerifyClientCertIfGiven")]
    IfGiven,
    #[serde(rename = "RequireAndVerifyClientCert")]
    Required,
}

#[derive(Clone, Copy, Default, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    #[default]
    #[serde(rename = "TLS12")]
    Tls12,
    #[serde(rename = "TLS13")]
    Tls13,
}

/// Loads the configuration and the files that it names.
pub(super) fn load(path: &Path) -> Result<Arc<ServerConfig>, TlsError> {
    let refused = |reason: String| TlsError::Refused {
        path: path.to_owned(),
        reason,
    };
    let text = not_a_pipe(path).and_then(|()| fs::read_to_string(path));
    let text = text.map_err(|error| unreadable(path, error_text::io(&error)))?;
    let file: WebConfig =
        serde_saphyr::from_str(&text).map_err(|error| refused(error_text::yaml(&error)))?;
    let server = file.tls_server_config;
    let directory = path.parent().unwrap_or(Path::new(""));

    let certificates = certificates(&directory.join(&server.cert_file))?;
    let key_path = directory.join(&server.key_file);
    let key = pem::private_key(&key_path);
    let key = key.map_err(|error| unreadable(&key_path, pem::error_text(&error, &key_path)))?;
    if !trust::is_usable(&key) {
        let reason = format!("the private key cannot be used: keys are {}", trust::KEYS);
        return Err(TlsError::Refused {
            path: key_path,
            reason,
        });
    }

    let latest = server.max_version.unwrap_or(Version::Tls13);
    let versions: Vec<&SupportedProtocolVersion> =
        [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)]
            .into_iter()
            .filter(|(version, _)| (server.min_version..=latest).contains(version))
            .map(|(_, version)| version)
            .collect();
    let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&versions)
        .map_err(|error| refused(format!("min_version and max_version: {error}")))?;
    let builder = match verifier(&server, directory)? {
        None if server.client_ca_file.is_some() => {
            let reason = "client_ca_file is set but client_auth_type requires no certificate";
            return Err(refused(reason.to_owned()));
        }
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let config = builder.with_single_cert(certificates, key);
    let config = config.map_err(|error| refused(pem::unusable_text(&error)))?;
    Ok(Arc::new(config))
}

fn verifier(
    server: &TlsServerConfig,
    directory: &Path,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    if server.client_auth_type == ClientAuth::None {
        return Ok(None);
    }
    let name = server.client_ca_file.as_deref().unwrap_or(Path::new(""));
    let path = directory.join(name);
    let refused = |reason: String| TlsError::Refused {
        path: path.clone(),
        reason,
    };
    let trusted = Trusted::of(certificates(&path)?, path.display());
    let trusted = trusted.map_err(|error| refused(pem::unusable_text(&error)))?;
    let provider = Arc::new(ring::default_provider());
    let verifier =
        trusted.client_verifier(provider, server.client_auth_type == ClientAuth::IfGiven);
    verifier
        .map(Some)
        .map_err(|error| refused(error.to_string()))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    pem::certificates(path).map_err(|error| unreadable(path, pem::error_text(&error, path)))
}

fn unreadable(path: &Path, reason: String) -> TlsError {
    TlsError::Read {
        path: path.to_owned(),
        reason,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A directory with a certificate for `localhost`, its key, and `web.yml` with these additional
    /// lines.
    pub(in crate::admin) fn files(more: &str) -> (tempfile::TempDir, PathBuf) {
        let generated = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yml");
        fs::write(directory.path().join("cert.pem"), generated.cert.pem()).unwrap();
        let key = generated.signing_key.serialize_pem();
        fs::write(directory.path().join("key.pem"), key).unwrap();
        let text =
            format!("tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n{more}");
        fs::write(&path, text).unwrap();
        (directory, path)
    }

    #[test]
    fn unsupported_settings_are_refused() {
        for more in [
            "",
            "  min_version: TLS13\n",
            "  client_auth_type: NoClientCert\n",
            "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: cert.pem\n",
            "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: cert.pem\n",
        ] {
            let (_directory, path) = files(more);
            assert!(load(&path).is_ok(), "{more}");
        }
        for (more, wanted) in [
            ("  cipher_suites: [x]\n", "cipher_suites"),
            ("basic_auth_users: {a: b}\n", "basic_auth_users"),
            (
                "  client_auth_type: RequireAnyClientCert\n",
                "RequireAnyClientCert",
            ),
            ("  client_ca_file: cert.pem\n", "requires no certificate"),
            (
                "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: no.pem\n",
                "no.pem",
            ),
            (
                "  min_version: TLS13\n  max_version: TLS12\n",
                "max_version",
            ),
            ("  min_version: TLS10\n", "TLS10"),
        ] {
            let (_directory, path) = files(more);
            let refused = load(&path).unwrap_err().to_string();
            assert!(refused.contains(wanted), "{more}: {refused}");
        }
    }
}
