//! Errors of the system and of libraries in words that whoever wrote a Corefile can act on. What is
//! not known here comes in the words of its origin.

use std::io::{self, ErrorKind};

use rustls::{InconsistentKeys, pki_types::pem};

/// Why a file, or what else has a path, cannot be used.
pub fn io(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => "it does not exist".to_owned(),
        ErrorKind::PermissionDenied => "this process has no right to it".to_owned(),
        ErrorKind::IsADirectory => "it is a directory".to_owned(),
        ErrorKind::NotADirectory => "a part of its path is no directory".to_owned(),
        ErrorKind::InvalidData => "it is no text in UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

/// An error with all of its causes, in one line.
pub fn chain(error: &anyhow::Error) -> String {
    let causes = error.chain().map(|cause| match cause.downcast_ref() {
        Some(error) => io(error),
        None => cause.to_string(),
    });
    causes.collect::<Vec<_>>().join(": ")
}

/// Why nothing can be read from a file in PEM form.
pub fn pem(error: &pem::Error) -> String {
    match error {
        pem::Error::Io(error) => io(error),
        pem::Error::NoItemsFound => {
            "there is none in it: it begins with a line '-----BEGIN ...-----'".to_owned()
        }
        pem::Error::MissingSectionEnd { end_marker } => format!(
            "it is cut short: the line '-----END {}-----' is missing",
            String::from_utf8_lossy(end_marker)
        ),
        pem::Error::IllegalSectionStart { line } => {
            let line = String::from_utf8_lossy(line);
            format!("the line '{}' is broken", line.trim())
        }
        pem::Error::Base64Decode(_) => "it is damaged: a line of it is no base64".to_owned(),
        other => other.to_string(),
    }
}

/// Why certificates or keys cannot be used for TLS.
pub fn tls(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            "the key is that of another certificate".to_owned()
        }
        rustls::Error::InvalidCertificate(_) => {
            "a certificate is damaged, or of a kind that is not known".to_owned()
        }
        rustls::Error::General(why) => why.clone(),
        other => other.to_string(),
    }
}

/// What is wrong with YAML, in one line: where, and what.
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
        .replace("expected string scalar", "a text is expected here");
    format!("it is not the YAML that it must be: {first}")
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

    use super::*;

    #[test]
    fn errors_say_what_is_wrong_with_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let read = |name: &str, text: Option<&[u8]>| {
            let path = folder.path().join(name);
            if let Some(text) = text {
                std::fs::write(&path, text).unwrap();
            }
            path
        };
        let key = |text: Option<&[u8]>| {
            pem(&PrivateKeyDer::from_pem_file(read("key", text)).unwrap_err())
        };
        assert_eq!(key(None), "it does not exist");
        assert!(key(Some(b"hello")).starts_with("there is none in it"));
        let cut = b"-----BEGIN CERTIFICATE-----\nAAAA\n";
        let cut = CertificateDer::from_pem_file(read("cut", Some(cut))).unwrap_err();
        let wanted = "it is cut short: the line '-----END CERTIFICATE-----' is missing";
        assert_eq!(pem(&cut), wanted);
        let directory = std::fs::read_to_string(folder.path()).unwrap_err();
        assert_eq!(io(&directory), "it is a directory");
        let binary = std::fs::read_to_string(read("binary", Some(b"\xFF\xFE"))).unwrap_err();
        assert_eq!(io(&binary), "it is no text in UTF-8");
    }

    #[test]
    fn causes_are_said_one_after_the_other() {
        let error = anyhow::Error::from(io::Error::from(ErrorKind::PermissionDenied));
        let error = error.context("cannot read /a").context("plugin/b");
        let wanted = "plugin/b: cannot read /a: this process has no right to it";
        assert_eq!(chain(&error), wanted);
    }

    #[test]
    fn yaml_is_told_in_one_line() {
        let told = |text: &str| {
            let read = serde_saphyr::from_str::<std::collections::BTreeMap<String, Vec<u8>>>(text);
            yaml(&read.unwrap_err())
        };
        for (text, words) in [
            ("a: 7\n", "a list is expected here"),
            ("a: [\n", "line"),
            ("hello\n", "'key: value'"),
        ] {
            let told = told(text);
            assert!(told.contains(words) && !told.contains('\n'), "{told}");
            assert!(!told.contains("<input>"), "{told}");
        }
    }
}
