//! The bearer token, from a file or from the kubeconfig.
//!
//! `kube` would send it including a trailing line end, which is invalid in a header; so it is read
//! here and trimmed.

use super::super::error::SourceError;
use crate::error_text;
use crate::files::{Cached, not_a_pipe};
use http::HeaderValue;
use kube::config::AuthInfo;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

/// Interval for re-reading a token file: the kubelet rotates it before it expires.
const REREAD_INTERVAL: Duration = Duration::from_mins(1);

/// Maximum bytes read of a token file. A service account token has some 1,000.
const MAX_TOKEN_BYTES: u64 = 64 << 10;

/// The credentials of requests.
pub(super) enum BearerToken {
    /// From the kubeconfig.
    Fixed(HeaderValue),
    /// From a file.
    File(TokenFile),
}

/// A token file and its last content.
pub(super) struct TokenFile {
    path: PathBuf,
    last: Cached<HeaderValue>,
}

impl BearerToken {
    /// Removes the token from the credentials, if they authenticate with a token.
    pub(super) fn take(auth: &mut AuthInfo) -> Result<Option<Self>, SourceError> {
        let has_password = auth.username.is_some() && auth.password.is_some();
        if auth.auth_provider.is_some() || has_password {
            return Ok(None);
        }
        let token = if let Some(text) = inline(auth) {
            let header =
                header(&text).map_err(|reason| SourceError::Token("token".into(), reason))?;
            Self::Fixed(header)
        } else if let Some(file) = &auth.token_file {
            let path = PathBuf::from(file);
            let header = read(&path)
                .map_err(|reason| SourceError::Token(path.display().to_string(), reason))?;
            let last = Cached::new(header, REREAD_INTERVAL);
            Self::File(TokenFile { path, last })
        } else {
            return Ok(None);
        };
        (auth.token, auth.token_file, auth.exec) = (None, None, None);
        Ok(Some(token))
    }

    /// The value of the `authorization` header.
    pub(super) fn header(&self) -> HeaderValue {
        match self {
            Self::Fixed(header) => header.clone(),
            Self::File(file) => file.header(),
        }
    }
}

impl TokenFile {
    /// If the file becomes unusable, as while it is written, the last token stays in use: it may still be
    /// valid.
    fn header(&self) -> HeaderValue {
        let header = self.last.get(|| match read(&self.path) {
            Ok(header) => Ok::<_, Infallible>(Some(header)),
            // A deleted file may have been mounted for the start only.
            Err(_) if !self.path.exists() => Ok(None),
            Err(reason) => {
                let path = self.path.display();
                tracing::warn!(
                    "the token cannot be used, the last one stays in use: {path}: {reason}"
                );
                Ok(None)
            }
        });
        let Ok(header) = header;
        header
    }
}

/// The kubeconfig's token. The field's type comes from another crate; it serializes to a string.
fn inline(auth: &AuthInfo) -> Option<String> {
    auth.token.as_ref()?;
    let auth = serde_json::to_value(auth).ok()?;
    Some(auth.get("token")?.as_str()?.to_owned())
}

fn read(path: &Path) -> Result<HeaderValue, String> {
    let mut text = String::new();
    not_a_pipe(path).map_err(|error| error_text::io(&error))?;
    let file = fs::File::open(path).map_err(|error| error_text::io(&error))?;
    io::Read::read_to_string(&mut io::Read::take(file, MAX_TOKEN_BYTES), &mut text)
        .map_err(|error| error_text::io(&error))?;
    header(&text)
}

fn header(token: &str) -> Result<HeaderValue, String> {
    let token = token.trim();
    if token.is_empty() {
        return Err("it is empty".into());
    }
    let mut header = HeaderValue::try_from(format!("Bearer {token}"))
        .map_err(|_| "it holds a line end or another control character".to_owned())?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_file_is_reread_and_trimmed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc.def\n").unwrap();
        let mut auth = AuthInfo {
            token_file: Some(file.path().display().to_string()),
            ..AuthInfo::default()
        };
        let token = BearerToken::take(&mut auth).unwrap().unwrap();
        assert!(auth.token_file.is_none(), "kube would read it too");
        assert_eq!(token.header(), "Bearer abc.def");
        fs::write(file.path(), " new\r\n").unwrap();
        assert_eq!(token.header(), "Bearer abc.def");
        tokio::time::advance(REREAD_INTERVAL).await;
        assert_eq!(token.header(), "Bearer new");
        // Whatever takes its place, the last usable token stays.
        for text in ["a\nb", "", "\u{0}"] {
            fs::write(file.path(), text).unwrap();
            tokio::time::advance(REREAD_INTERVAL).await;
            assert_eq!(token.header(), "Bearer new");
        }
        fs::write(file.path(), "newer").unwrap();
        tokio::time::advance(REREAD_INTERVAL).await;
        assert_eq!(token.header(), "Bearer newer");
        file.close().unwrap();
        tokio::time::advance(REREAD_INTERVAL).await;
        assert_eq!(token.header(), "Bearer newer");
    }

    #[test]
    fn a_kubeconfig_token_is_trimmed() {
        let mut auth: AuthInfo = serde_json::from_str(r#"{"token": "abc\n"}"#).unwrap();
        let token = BearerToken::take(&mut auth).unwrap().unwrap();
        assert_eq!(token.header(), "Bearer abc");
        assert!(auth.token.is_none());
        for (text, wanted) in [
            (r#"{"token": " \n"}"#, "token: it is empty"),
            (
                r#"{"tokenFile": "/nonexistent"}"#,
                "/nonexistent: it does not exist",
            ),
        ] {
            let mut auth: AuthInfo = serde_json::from_str(text).unwrap();
            let error = BearerToken::take(&mut auth)
                .map(|_| ())
                .unwrap_err()
                .to_string();
            assert!(error.contains(wanted), "{error}");
        }
        assert!(
            BearerToken::take(&mut AuthInfo::default())
                .unwrap()
                .is_none()
        );
    }
}
