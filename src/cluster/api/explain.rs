//! Messages for connection, TLS and kubeconfig errors: the cause and what to do, instead of the
//! libraries' internal states.

use crate::error_text;
use rustls::{AlertDescription, CertificateError};
use std::error::Error;
use std::io;

/// Why a connection failed or was lost.
pub(super) fn connection(error: &(dyn Error + 'static)) -> String {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(message) = message_for(error) {
            return message;
        }
        cause = error.source();
    }
    // Outer errors only say that something failed.
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

fn message_for(error: &(dyn Error + 'static)) -> Option<String> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return Some(tls(error));
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // The inner error of an `io::Error` is not part of its source chain.
        let inner = error.get_ref().and_then(|inner| message_for(inner));
        return inner.or_else(|| system(error));
    }
    let error = error.downcast_ref::<hyper::Error>()?;
    if error.is_parse() {
        return Some(
            "it does not speak HTTP; if it expects TLS, its URL begins with https://".into(),
        );
    }
    let is_closed = error.is_incomplete_message() || error.is_closed();
    (is_closed && error.source().is_none()).then(closed)
}

fn closed() -> String {
    "it closes the connection before it has answered".into()
}

/// Errors of the operating system.
fn system(error: &io::Error) -> Option<String> {
    use io::ErrorKind;
    let message = match error.kind() {
        ErrorKind::ConnectionRefused => {
            "it refuses the connection; is it running, and is this its port?"
        }
        ErrorKind::TimedOut => {
            "it does not answer; is this its address, and does no firewall stand in between?"
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => {
            "no route leads to its address; is the pod network up?"
        }
        ErrorKind::AddrNotAvailable => "this machine has no address or port left to connect from",
        ErrorKind::PermissionDenied => {
            "this machine does not let the connection out; see its firewall"
        }
        ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted
        | ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof => return Some(closed()),
        _ if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) => {
            "no file descriptor is left; raise the limit of this process (ulimit -n)"
        }
        _ if error.to_string().contains("lookup address") => {
            "its name cannot be resolved; check the URL, and that the resolver of this machine does \
             not ask this very server"
        }
        _ => return None,
    };
    Some(message.into())
}

fn tls(error: &rustls::Error) -> String {
    use AlertDescription as Alert;
    use rustls::Error as Tls;
    let message = match error {
        Tls::InvalidCertificate(error) => return certificate(error),
        Tls::AlertReceived(
            Alert::CertificateRequired
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied,
        ) => "it does not accept the client certificate; is it this cluster's, and not expired?",
        Tls::AlertReceived(Alert::HandshakeFailure | Alert::ProtocolVersion)
        | Tls::PeerIncompatible(_) => {
            "it shares no version or cipher of TLS with this program, which knows TLS 1.2 and 1.3"
        }
        Tls::InvalidMessage(_) | Tls::InappropriateMessage { .. } => {
            "it does not speak TLS; if it expects plain HTTP, its URL begins with http://"
        }
        _ => "the TLS handshake fails; is this the API server, and no proxy in front of it?",
    };
    message.into()
}

fn certificate(error: &CertificateError) -> String {
    let message = match error {
        CertificateError::UnknownIssuer => {
            "its certificate is not signed by the authority that is trusted: name the right one in \
             'tls CERT KEY CA', or as certificate-authority in the kubeconfig"
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let names = presented.join(", ");
            return format!(
                "its certificate is for other names: use one of them in the URL ({names})"
            );
        }
        CertificateError::NotValidForName => {
            "its certificate is for other names: use one of them in the URL"
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired; renew it, or correct the clock of this machine"
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate is not valid yet; is the clock of this machine right?"
        }
        CertificateError::Revoked => "its certificate is revoked; it needs a new one",
        _ => "its certificate cannot be used; it needs one for a server, signed by the authority",
    };
    message.into()
}

/// Why a client cannot be built from a configuration.
pub(super) fn client(error: &(dyn Error + 'static)) -> String {
    use kube::client::RustlsTlsError as Tls;
    let Some(known) = error.downcast_ref::<kube::Error>() else {
        return chain(error);
    };
    let message = match known {
        kube::Error::ProxyProtocolUnsupported { .. }
        | kube::Error::ProxyProtocolDisabled { .. } => {
            "proxies are not supported; take proxy-url out of the kubeconfig"
        }
        kube::Error::RustlsTls(error) => match error {
            Tls::InvalidIdentityPem(_) | Tls::MissingCertificate => {
                "the client certificate holds no certificate in PEM form"
            }
            Tls::MissingPrivateKey | Tls::UnknownPrivateKeyFormat | Tls::InvalidPrivateKey(_) => {
                "the client key holds no usable private key in PEM form"
            }
            Tls::AddRootCertificate(_) => "the certificate authority's certificate cannot be used",
            Tls::NoValidNativeRootCA(_) => {
                "no certificate authority is named, and this machine trusts none"
            }
            Tls::InvalidServerName(_) => "tls-server-name is no host name",
        },
        error => return chain(error),
    };
    message.into()
}

/// Why a kubeconfig is unusable.
pub(super) fn kubeconfig(error: &kube::config::KubeconfigError) -> String {
    use kube::config::KubeconfigError as Bad;
    match error {
        Bad::CurrentContextNotSet => {
            "no context is chosen; name one behind the file, or set current-context in it".into()
        }
        Bad::LoadContext(name) => format!("it has no context '{name}'"),
        Bad::LoadClusterOfContext(name) => {
            format!("it has no cluster '{name}', which the context names")
        }
        Bad::Parse(error) => error_text::yaml(error),
        Bad::MissingClusterUrl => "its cluster has no server".into(),
        Bad::ParseClusterUrl(_) => "the server of its cluster is no URL".into(),
        Bad::ParseProxyUrl(_) => "proxy-url is no URL".into(),
        Bad::LoadCertificateAuthority(error) => data("certificate-authority", error),
        Bad::LoadClientCertificate(error) => data("client-certificate", error),
        Bad::LoadClientKey(error) => data("client-key", error),
        Bad::ParseCertificates(_) => {
            "its certificate-authority holds no certificate in PEM form".into()
        }
        error => chain(error),
    }
}

fn data(field: &str, error: &kube::config::LoadDataError) -> String {
    use kube::config::LoadDataError as Bad;
    match error {
        Bad::DecodeBase64(_) => format!("{field}-data is no base64"),
        Bad::ReadFile(error, file) => {
            let why = crate::error_text::io(error);
            format!("{field}: cannot read {}: {why}", file.display())
        }
        Bad::NoBase64DataOrFile => format!("{field} is missing"),
    }
}

/// An error with its source chain: the outermost alone is often no more than "client error".
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_system_and_of_tls_have_a_remedy() {
        let wrapped = |error: rustls::Error| io::Error::new(io::ErrorKind::InvalidData, error);
        let bad = |error| wrapped(rustls::Error::InvalidCertificate(error));
        for (error, says) in [
            (
                io::Error::from_raw_os_error(libc::ECONNREFUSED),
                "is it running, and is this its port?",
            ),
            (io::Error::from_raw_os_error(libc::ETIMEDOUT), "no firewall"),
            (io::Error::from_raw_os_error(libc::EHOSTUNREACH), "no route"),
            (io::Error::from_raw_os_error(libc::EMFILE), "ulimit -n"),
            (
                io::Error::from_raw_os_error(libc::ECONNRESET),
                "it closes the connection",
            ),
            (
                io::Error::other("failed to lookup address information: Name or service not known"),
                "its name cannot be resolved",
            ),
            (bad(CertificateError::UnknownIssuer), "'tls CERT KEY CA'"),
            (bad(CertificateError::Expired), "has expired"),
            (bad(CertificateError::NotValidForName), "in the URL"),
            (
                wrapped(rustls::Error::AlertReceived(AlertDescription::UnknownCA)),
                "the client certificate",
            ),
            (
                wrapped(rustls::Error::InvalidMessage(
                    rustls::InvalidMessage::InvalidContentType,
                )),
                "http://",
            ),
        ] {
            let text = connection(&error);
            assert!(text.contains(says), "{text:?} does not say {says:?}");
            assert!(!text.contains("os error"), "{text}");
        }
    }
}
