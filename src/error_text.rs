//! Error texts for operators: errors of the system and of libraries, by what is to be corrected. Other
//! errors keep their original text.

use std::io::{self, ErrorKind};

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
        let missing = std::fs::read(folder.path().join("missing")).unwrap_err();
        assert_eq!(io(&missing), "it does not exist");
        let full = io::Error::from_raw_os_error(28);
        assert_eq!(super::io(&full), "No space left on device");
        let own = io::Error::new(ErrorKind::InvalidData, "5 bytes are too few");
        assert_eq!(super::io(&own), "5 bytes are too few");
        let directory = std::fs::read_to_string(folder.path()).unwrap_err();
        assert_eq!(io(&directory), "it is a directory");
        let path = folder.path().join("binary");
        std::fs::write(&path, b"\xFF\xFE").unwrap();
        let binary = std::fs::read_to_string(path).unwrap_err();
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
