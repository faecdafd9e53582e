//! What clients of a listener see of a `tls` line: its certificate, and whether they must authenticate.
//! Compared by the content of the files, so that `cert.pem` and `./cert.pem` are equal.

use std::{collections::BTreeSet, fmt};

use rustls::pki_types::CertificateDer;

use super::{ClientAuth, ServerFiles, TlsError, credentials::certificates};

/// The content of the files of a `tls` line.
#[derive(Debug, PartialEq, Eq)]
pub struct Presented {
    chain: Vec<CertificateDer<'static>>,
    client_auth: ClientAuth,
    /// In any order.
    authorities: Option<BTreeSet<Vec<u8>>>,
}

/// A difference between the `tls` lines of two blocks on one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PresentedDifference {
    /// One has a certificate, the other none.
    Presence,
    /// The certificate, or one above it.
    Certificate,
    /// Whether clients present a certificate.
    ClientAuth,
    /// The CA certificates that client certificates are verified against.
    Authorities,
}

impl Presented {
    /// Reads the certificates of the files, without the key.
    pub fn read(files: &ServerFiles) -> Result<Self, TlsError> {
        let authorities = files.authority.as_deref().map(|path| {
            let read = certificates(path, "an authority's certificate")?;
            Ok(read.iter().map(|one| one.to_vec()).collect())
        });
        Ok(Self {
            chain: certificates(&files.certificate, "a certificate")?,
            client_auth: files.client_auth,
            authorities: authorities.transpose()?,
        })
    }

    /// The first difference, if any.
    pub fn differs_from(&self, other: &Self) -> Option<PresentedDifference> {
        if self.chain != other.chain {
            return Some(PresentedDifference::Certificate);
        }
        if self.client_auth != other.client_auth {
            return Some(PresentedDifference::ClientAuth);
        }
        (self.authorities != other.authorities).then_some(PresentedDifference::Authorities)
    }
}

impl ServerFiles {
    /// A difference that shows without reading the files.
    pub fn differ_in_words(&self, other: &Self) -> Option<PresentedDifference> {
        if self.client_auth != other.client_auth {
            return Some(PresentedDifference::ClientAuth);
        }
        let has_one = self.authority.is_some() != other.authority.is_some();
        has_one.then_some(PresentedDifference::Authorities)
    }
}

impl fmt::Display for PresentedDifference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Presence => "TLS is configured for only one server block",
            Self::Certificate => "server certificates differ",
            Self::ClientAuth => "client authentication policies differ",
            Self::Authorities => "client CA pools differ",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_compared_and_not_their_files() {
        let folder = tempfile::tempdir().unwrap();
        let made = ["a", "b"].map(|name| {
            let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
            made.cert.pem()
        });
        let write = |name: &str, parts: &[&str]| {
            let path = folder.path().join(name);
            std::fs::write(&path, parts.concat()).unwrap();
            path
        };
        let first = write("first", &[&made[0]]);
        let same = write("same", &["a remark\n", &made[0]]);
        let other = write("other", &[&made[1]]);
        let both = write("both", &[&made[0], &made[1]]);
        let turned = write("turned", &[&made[1], &made[0]]);
        let files = |certificate, authority: Option<&std::path::PathBuf>| ServerFiles {
            authority: authority.cloned(),
            ..ServerFiles::new(certificate, "key")
        };
        let differ = |one: &ServerFiles, another: &ServerFiles| {
            Presented::read(one)
                .unwrap()
                .differs_from(&Presented::read(another).unwrap())
        };
        let mine = files(&first, Some(&both));
        for (theirs, wanted) in [
            (files(&same, Some(&turned)), None),
            (
                files(&other, Some(&both)),
                Some(PresentedDifference::Certificate),
            ),
            (
                files(&both, Some(&both)),
                Some(PresentedDifference::Certificate),
            ),
            (
                files(&first, Some(&other)),
                Some(PresentedDifference::Authorities),
            ),
            (files(&first, None), Some(PresentedDifference::Authorities)),
            (
                ServerFiles {
                    client_auth: ClientAuth::Request,
                    ..mine.clone()
                },
                Some(PresentedDifference::ClientAuth),
            ),
        ] {
            assert_eq!(differ(&mine, &theirs), wanted, "{theirs:?}");
        }
        assert!(Presented::read(&ServerFiles::new("/nonexistent", "key")).is_err());
    }
}
