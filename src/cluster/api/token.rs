//! The bearer token, from a file or from the kubeconfig itself.
//!
//! `kube` would send it to the last octet, and a line end at the end of a file is not one that a
//! header can hold; so it is read here, without the space around it.

use super::super::source::SourceError;
use super::failure::Failure;
use crate::files::Cached;
use crate::plain;
use http::HeaderValue;
use kube::config::AuthInfo;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

/// A token file is read again after so long: whoever mounts it replaces it before it expires.
const FRESH: Duration = Duration::from_mins(1);

/// The longest token file that is read. A service account's token is some 1,000 octets.
const LONGEST: u64 = 64 << 10;

/// What requests are authorized with.
pub(super) enum Token {
    /// As the kubeconfig says.
    Fixed(HeaderValue),
    /// As a file says.
    File(TokenFile),
}

/// A token file and what it last said.
pub(super) struct TokenFile {
    path: PathBuf,
    last: Cached<HeaderValue>,
}

impl Token {
    /// Takes the token out of the credentials, where it is what they authorize with.
    pub(super) fn take(auth: &mut AuthInfo) -> Result<Option<Self>, SourceError> {
        let has_password = auth.username.is_some() && auth.password.is_some();
        if auth.auth_provider.is_some() || has_password {
            return Ok(None);
        }
        let token = if let Some(text) = inline(auth) {
            let header = header(&text).map_err(|what| SourceError::Token("token".into(), what))?;
            Self::Fixed(header)
        } else if let Some(file) = &auth.token_file {
            let path = PathBuf::from(file);
            let header =
                read(&path).map_err(|what| SourceError::Token(path.display().to_string(), what))?;
            let last = Cached::new(header, FRESH);
            Self::File(TokenFile { path, last })
        } else {
            return Ok(None);
        };
        (auth.token, auth.token_file, auth.exec) = (None, None, None);
        Ok(Some(token))
    }

    /// The value of the header `authorization`.
    pub(super) fn header(&self) -> Result<HeaderValue, Failure> {
        match self {
            Self::Fixed(header) => Ok(header.clone()),
            Self::File(file) => file.header(),
        }
    }
}

impl TokenFile {
    fn header(&self) -> Result<HeaderValue, Failure> {
        self.last.get(|| match read(&self.path) {
            Ok(header) => Ok(Some(header)),
            // A file that is gone was mounted for the start only; what it said may be good yet.
            Err(_) if !self.path.exists() => Ok(None),
            Err(what) => Err(Failure::Token(self.path.display().to_string(), what)),
        })
    }
}

/// The kubeconfig's own token. The type of the field is another crate's; in serialized form it is
/// text.
fn inline(auth: &AuthInfo) -> Option<String> {
    auth.token.as_ref()?;
    let auth = serde_json::to_value(auth).ok()?;
    Some(auth.get("token")?.as_str()?.to_owned())
}

fn read(path: &Path) -> Result<HeaderValue, String> {
    let mut text = String::new();
    plain::not_a_pipe(path).map_err(|error| plain::io(&error))?;
    let file = fs::File::open(path).map_err(|error| plain::io(&error))?;
    io::Read::read_to_string(&mut io::Read::take(file, LONGEST), &mut text)
        .map_err(|error| plain::io(&error))?;
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
    async fn a_file_is_read_again_and_the_space_around_its_token_is_none_of_it() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "abc.def\n").unwrap();
        let mut auth = AuthInfo {
            token_file: Some(file.path().display().to_string()),
            ..AuthInfo::default()
        };
        let token = Token::take(&mut auth).unwrap().unwrap();
        assert!(auth.token_file.is_none(), "kube would read it too");
        assert_eq!(token.header().unwrap(), "Bearer abc.def");
        fs::write(file.path(), " new\r\n").unwrap();
        assert_eq!(token.header().unwrap(), "Bearer abc.def");
        tokio::time::advance(FRESH).await;
        assert_eq!(token.header().unwrap(), "Bearer new");
        fs::write(file.path(), "a\nb").unwrap();
        tokio::time::advance(FRESH).await;
        let error = token.header().unwrap_err().to_string();
        assert!(error.contains(&*file.path().to_string_lossy()), "{error}");
        file.close().unwrap();
        assert_eq!(token.header().unwrap(), "Bearer new");
    }

    #[test]
    fn a_kubeconfigs_own_token_is_trimmed_too() {
        let mut auth: AuthInfo = serde_json::from_str(r#"{"token": "abc\n"}"#).unwrap();
        let token = Token::take(&mut auth).unwrap().unwrap();
        assert_eq!(token.header().unwrap(), "Bearer abc");
        assert!(auth.token.is_none());
        for (text, wanted) in [
            (r#"{"token": " \n"}"#, "token: it is empty"),
            (
                r#"{"tokenFile": "/nonexistent"}"#,
                "/nonexistent: it does not exist",
            ),
        ] {
            let mut auth: AuthInfo = serde_json::from_str(text).unwrap();
            let error = Token::take(&mut auth).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
        assert!(Token::take(&mut AuthInfo::default()).unwrap().is_none());
    }
}
