//! Messages for errors of the system and of libraries that tell operators what to fix. Unknown
//! errors keep their original message.

use std::{
    fs::File,
    io::{self, ErrorKind, Read},
    os::unix::fs::FileTypeExt,
    path::Path,
};

use rustls::{
    InconsistentKeys,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
};

/// Message for an I/O error on a path.
pub fn io(error: &io::Error) -> String {
    match error.kind() {
        // A custom message is more specific than the kind.
        _ if error.get_ref().is_some() => without_number(error.to_string()),
        ErrorKind::NotFound => "it does not exist".to_owned(),
        ErrorKind::PermissionDenied => "this process has no permission".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        ErrorKind::NotADirectory => "a part of its path is not a directory".to_owned(),
        ErrorKind::InvalidData => "it is not UTF-8 text".to_owned(),
        _ => without_number(error.to_string()),
    }
}

/// Refuses a named pipe in place of a file: opening one blocks until there is a writer.
///
/// # Errors
/// It is a pipe, or the path does not exist.
pub fn not_a_pipe(path: impl AsRef<Path>) -> io::Result<()> {
    if std::fs::metadata(path)?.file_type().is_fifo() {
        return Err(io::Error::other("it is a pipe, not a file"));
    }
    Ok(())
}

/// All certificates of a PEM file, possibly none.
///
/// # Errors
/// The file cannot be read, or a certificate is malformed.
pub fn certificates(path: impl AsRef<Path>) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    not_a_pipe(&path).map_err(pem::Error::Io)?;
    CertificateDer::pem_file_iter(path)?.collect()
}

/// The first private key of a PEM file.
///
/// # Errors
/// The file cannot be read, or has no private key.
pub fn private_key(path: impl AsRef<Path>) -> Result<PrivateKeyDer<'static>, pem::Error> {
    not_a_pipe(&path).map_err(pem::Error::Io)?;
    PrivateKeyDer::from_pem_file(path)
}

/// Strips the error number from the system's message.
fn without_number(mut text: String) -> String {
    if let Some(end) = text.find(" (os error ") {
        text.truncate(end);
    }
    text
}

/// Message for an invalid regular expression, on one line.
pub fn regex(error: &regex::Error) -> String {
    // The last line of the library's multi-line message states the error.
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

/// Message for a failed file watch.
pub fn watch(error: &notify::Error) -> String {
    match &error.kind {
        notify::ErrorKind::Io(error) => io(error),
        notify::ErrorKind::PathNotFound => "it does not exist".to_owned(),
        notify::ErrorKind::MaxFilesWatch => {
            "the system's limit of watches is reached (fs.inotify.max_user_watches)".to_owned()
        }
        _ => without_number(error.to_string()),
    }
}

/// An error and its chain of causes on one line.
pub fn chain(error: &anyhow::Error) -> String {
    let causes = error.chain().map(|cause| match cause.downcast_ref() {
        Some(error) => io(error),
        None => cause.to_string(),
    });
    causes.collect::<Vec<_>>().join(": ")
}

/// Message for a PEM file without usable content.
pub fn pem(error: &pem::Error, path: impl AsRef<Path>) -> String {
    match error {
        pem::Error::Io(error) => io(error),
        pem::Error::NoItemsFound => instead_of_pem(path),
        pem::Error::Base64Decode(_) if instead_of_pem(&path) == ENCRYPTED => ENCRYPTED.to_owned(),
        pem::Error::MissingSectionEnd { end_marker } => format!(
            "it is cut short: the line '-----END {}-----' is missing",
            String::from_utf8_lossy(end_marker)
        ),
        pem::Error::IllegalSectionStart { line } => {
            let line = String::from_utf8_lossy(line);
            format!("the line '{}' is broken", line.trim())
        }
        pem::Error::Base64Decode(_) => "it is damaged: invalid base64".to_owned(),
        other => other.to_string(),
    }
}

const ENCRYPTED: &str = "the key is encrypted, and a server cannot ask for a passphrase: decrypt it \
                         with 'openssl pkey -in FILE -out NEW'";

/// Describes the content of a file without the expected certificate or key.
pub fn instead_of_pem(path: impl AsRef<Path>) -> String {
    const LOOKED_AT: u64 = 64 << 10;
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(LOOKED_AT).read_to_end(&mut start));
    if let Err(error) = read {
        return io(&error);
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
pub fn tls(error: &rustls::Error) -> String {
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

/// Message for a YAML error on one line, with its location.
pub fn yaml(error: &serde_saphyr::Error) -> String {
    let options = serde_saphyr::render_options! {
        snippets: serde_saphyr::SnippetMode::Off,
    };
    let text = error.render_with_options(options);
    let first = text.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let first = first
        .replace("expected sequence start", "a list is expected here")
        .replace(
            "expected mapping start",
            "lines of the form 'key: value' are expected here",
        )
        .replace("expected string scalar", "a text is expected here")
        .replace("unknown variant", "unknown value")
        // Drops the empty text from the list of values.
        .replace("expected one of , ", "expected one of ");
    format!("invalid YAML: {first}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_errors_are_explained() {
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
            pem(&PrivateKeyDer::from_pem_file(&path).unwrap_err(), path)
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
        assert_eq!(pem(&cut, cut_path), wanted);
        let full = io::Error::from_raw_os_error(28);
        assert_eq!(super::io(&full), "No space left on device");
        let own = io::Error::new(ErrorKind::InvalidData, "5 bytes are too few");
        assert_eq!(super::io(&own), "5 bytes are too few");
        let directory = std::fs::read_to_string(folder.path()).unwrap_err();
        assert_eq!(io(&directory), "it is a directory");
        let binary = std::fs::read_to_string(read("binary", Some(b"\xFF\xFE"))).unwrap_err();
        assert_eq!(io(&binary), "it is not UTF-8 text");
    }

    #[test]
    fn causes_are_joined_in_order() {
        let error = anyhow::Error::from(io::Error::from(ErrorKind::PermissionDenied));
        let error = error.context("cannot read /a").context("plugin/b");
        let wanted = "plugin/b: cannot read /a: this process has no permission";
        assert_eq!(chain(&error), wanted);
    }

    #[test]
    fn yaml_errors_are_one_line() {
        let message = |text: &str| {
            let read = serde_saphyr::from_str::<std::collections::BTreeMap<String, Vec<u8>>>(text);
            yaml(&read.unwrap_err())
        };
        for (text, words) in [
            ("a: 7\n", "a list is expected here"),
            ("a: [\n", "line"),
            ("hello\n", "'key: value'"),
        ] {
            let line = message(text);
            assert!(line.contains(words) && !line.contains('\n'), "{line}");
            assert!(!line.contains("<input>"), "{line}");
        }
    }
}
