//! PEM files: their certificates and private keys, and error texts for files without usable ones.

use std::{fs::File, io::Read, path::Path};

pub use rustls::pki_types::pem::Error;
use rustls::{
    InconsistentKeys,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};

use crate::{error_text, files::not_a_pipe};

/// All certificates of a PEM file, possibly none.
///
/// # Errors
/// The file cannot be read, or a certificate is malformed.
pub fn certificates(path: impl AsRef<Path>) -> Result<Vec<CertificateDer<'static>>, Error> {
    not_a_pipe(&path).map_err(Error::Io)?;
    CertificateDer::pem_file_iter(path)?.collect()
}

/// The first private key of a PEM file.
///
/// # Errors
/// The file cannot be read, or has no private key.
pub fn private_key(path: impl AsRef<Path>) -> Result<PrivateKeyDer<'static>, Error> {
    not_a_pipe(&path).map_err(Error::Io)?;
    PrivateKeyDer::from_pem_file(path)
}

/// Message for a PEM file without usable content.
pub fn error_text(error: &Error, path: impl AsRef<Path>) -> String {
    match error {
        Error::Io(error) => error_text::io(error),
        Error::NoItemsFound => content_text(path),
        Error::Base64Decode(_) if content_text(&path) == ENCRYPTED => ENCRYPTED.to_owned(),
        Error::MissingSectionEnd { end_marker } => format!(
            "it is cut short: the line '-----END {}-----' is missing",
            String::from_utf8_lossy(end_marker)
        ),
        Error::IllegalSectionStart { line } => {
            let line = String::from_utf8_lossy(line);
            format!("the line '{}' is broken", line.trim())
        }
        Error::Base64Decode(_) => "it is damaged: invalid base64".to_owned(),
        other => other.to_string(),
    }
}

const ENCRYPTED: &str = "the key is encrypted, and a server cannot ask for a passphrase: decrypt it \
                         with 'openssl pkey -in FILE -out NEW'";

/// What a file contains instead of the expected certificate or key.
pub fn content_text(path: impl AsRef<Path>) -> String {
    const LOOKED_AT: u64 = 64 << 10;
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LOOKED_AT).read_to_end(&mut start));
    if let Err(error) = read {
        return error_text::io(&error);
    }
    let text = String::from_utf8_lossy(&start);
    let mut lines = text.lines().map(str::trim);
    let label = lines
        .find_map(|line| line.strip_prefix("-----BEGIN ")?.strip_suffix("-----"))
        .filter(|label| label.len() <= 64);
    match label {
        // PKCS #8 states encryption in the label, older formats in a header (RFC 1421).
        Some(label) if label.contains("ENCRYPTED") || text.contains("Proc-Type: 4,ENCRYPTED") => {
            ENCRYPTED.to_owned()
        }
        Some(label) => format!("it contains '{label}'"),
        None if start.is_empty() => "it is empty".to_owned(),
        // An ASN.1 sequence longer than 127 bytes.
        None if start.starts_with(&[0x30]) && start.get(1).is_some_and(|byte| *byte > 0x80) => {
            "it is in DER format, not PEM: convert it with 'openssl x509 -inform DER' or 'openssl \
             pkey -inform DER'"
                .to_owned()
        }
        None => "it has none: PEM starts with a line '-----BEGIN ...-----'".to_owned(),
    }
}

/// Message for certificates or keys unusable for TLS.
pub fn unusable_text(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key does not belong to the certificate".to_owned()
        }
        rustls::Error::InvalidCertificate(_) => {
            "a certificate is malformed or of an unsupported kind".to_owned()
        }
        rustls::Error::General(why) => why.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_files_are_explained() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: Option<&[u8]>| {
            let path = folder.path().join(name);
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            path
        };
        let key = |text: Option<&[u8]>| {
            let path = read("key", text);
            error_text(&PrivateKeyDer::from_pem_file(&path).unwrap_err(), path)
        };
        assert_eq!(key(None), "it does not exist");
        assert!(key(Some(b"hello")).starts_with("it has none"));
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        let encrypted =
            b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(key(Some(encrypted)).contains("passphrase"));
        let older = b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
        assert!(key(Some(older)).contains("passphrase"));
        let public = b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n";
        assert_eq!(key(Some(public)), "it contains 'PUBLIC KEY'");
        assert!(key(Some(b"\x30\x82\x01\x00")).contains("DER"));
        let cut_path = read("cut", Some(cut));
        let cut = CertificateDer::from_pem_file(&cut_path).unwrap_err();
        let wanted = "it is cut short: the line '-----END CERTIFICATE-----' is missing";
        assert_eq!(error_text(&cut, cut_path), wanted);
    }
}
