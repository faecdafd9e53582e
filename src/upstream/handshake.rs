//! Why a TLS handshake with an upstream failed, in words for the log: which side does not accept what.

use rustls::{AlertDescription, CertificateError, Error};

use crate::trust::PEER_KEYS;

/// What happened, for a server that has to prove the name `expected`.
pub(super) fn explain(error: &Error, expected: &str) -> String {
    match error {
        Error::InvalidCertificate(why) => certificate(why, expected),
        Error::AlertReceived(alert) => refused(*alert),
        Error::NoApplicationProtocol => "the server does not speak the protocol".to_owned(),
        Error::PeerIncompatible(_) => nothing_in_common(),
        Error::InvalidMessage(_) => "the server does not speak TLS".to_owned(),
        other => other.to_string(),
    }
}

/// The same where QUIC has only the alert that ended the handshake on this side, and the library's
/// words for the reason (RFC 9001 section 4.8).
#[cfg(feature = "quic")]
pub(super) fn explain_own_alert(alert: u8, reason: &str, expected: &str) -> String {
    match AlertDescription::from(alert) {
        AlertDescription::UnknownCA => certificate(&CertificateError::UnknownIssuer, expected),
        AlertDescription::CertificateExpired => {
            "the server's certificate is out of date".to_owned()
        }
        AlertDescription::HandshakeFailure => nothing_in_common(),
        _ => format!("{reason} (expected {expected})"),
    }
}

/// The alert by which the server ends the handshake.
pub(super) fn refused(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::HandshakeFailure => nothing_in_common(),
        AlertDescription::NoApplicationProtocol => {
            "the server does not speak the protocol".to_owned()
        }
        AlertDescription::CertificateRequired => {
            "the server asks for a certificate, and there is none: name one with 'tls'".to_owned()
        }
        AlertDescription::UnknownCA
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate => {
            format!("the server does not accept the certificate that it is shown ({alert:?})")
        }
        AlertDescription::UnrecognisedName => "the server does not know the name".to_owned(),
        other => format!("the server refuses the handshake ({other:?})"),
    }
}

fn nothing_in_common() -> String {
    format!(
        "the server has no version, cipher or kind of certificate in common with this program, \
         which takes TLS 1.2 and 1.3 and keys of {PEER_KEYS}"
    )
}

fn certificate(why: &CertificateError, expected: &str) -> String {
    use CertificateError as Why;

    match why {
        Why::UnknownIssuer => {
            format!(
                "no trusted authority has signed the server's certificate (expected {expected})"
            )
        }
        Why::NotValidForName => format!("the server's certificate is not for {expected}"),
        Why::NotValidForNameContext { presented, .. } if presented.is_empty() => {
            format!("the server's certificate is for no name at all, expected {expected}")
        }
        Why::NotValidForNameContext { presented, .. } => {
            let names: Vec<_> = presented.iter().map(|name| plain(name)).collect();
            let names = names.join(", ");
            format!("the server's certificate is for {names}, expected {expected}")
        }
        Why::Expired | Why::ExpiredContext { .. } => {
            "the server's certificate has expired".to_owned()
        }
        Why::NotValidYet | Why::NotValidYetContext { .. } => {
            "the server's certificate is not valid yet".to_owned()
        }
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            "the server's certificate is not for servers".to_owned()
        }
        Why::UnsupportedSignatureAlgorithmContext { .. }
        | Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            format!("the server's certificate has a signature or key that is none of {PEER_KEYS}")
        }
        other => format!("the server's certificate is not accepted: {other} (expected {expected})"),
    }
}

/// webpki writes `DnsName("dns.example")` and `IpAddress(192.0.2.1)` for names.
fn plain(name: &str) -> &str {
    let inside = name.split_once('(').map(|(_, rest)| rest);
    let inside = inside.and_then(|rest| rest.strip_suffix(')'));
    inside.unwrap_or(name).trim_matches('"')
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;

    use super::*;

    #[test]
    fn reasons_are_told_in_words_of_ours() {
        let presented = ["DnsName(\"a.example\")", "IpAddress(192.0.2.1)", "b"];
        let presented = presented.map(str::to_owned).to_vec();
        let name = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("dns.example").unwrap(),
            presented,
        };
        for (error, words) in [
            (
                name.into(),
                "the server's certificate is for a.example, 192.0.2.1, b, expected dns.example",
            ),
            (
                CertificateError::Expired.into(),
                "the server's certificate has expired",
            ),
            (
                CertificateError::UnknownIssuer.into(),
                "no trusted authority has signed the server's certificate (expected dns.example)",
            ),
            (
                Error::AlertReceived(AlertDescription::UnknownCA),
                "the server does not accept the certificate that it is shown (UnknownCA)",
            ),
            (
                Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
                "the server does not speak TLS",
            ),
        ] {
            assert_eq!(explain(&error, "dns.example"), words);
        }
        let p521 = Error::AlertReceived(AlertDescription::HandshakeFailure);
        assert!(explain(&p521, "dns.example").contains("P-384"));
    }
}
