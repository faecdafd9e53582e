use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, date_time_ymd,
};

use super::*;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// A self-signed certificate for dns.test that is marked as a CA.
fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
    let mut params = CertificateParams::new(["dns.test".to_owned()]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    params.self_signed(&key).unwrap().der().clone()
}

fn as_server(
    trusted: &CertificateDer<'static>,
    presented: &CertificateDer<'_>,
    name: &'static str,
) -> Result<(), Error> {
    let verifier = Trusted::of(vec![trusted.clone()], "test").unwrap();
    let verifier = verifier.server_verifier(provider()).unwrap();
    let name = ServerName::try_from(name).unwrap();
    let checked = verifier.verify_server_cert(presented, &[], &name, &[], UnixTime::now());
    checked.map(|_| ())
}

fn as_client(
    trusted: &CertificateDer<'static>,
    presented: &CertificateDer<'_>,
) -> Result<(), Error> {
    let verifier = Trusted::of(vec![trusted.clone()], "test").unwrap();
    let verifier = verifier.client_verifier(provider(), false).unwrap();
    let checked = verifier.verify_client_cert(presented, &[], UnixTime::now());
    checked.map(|_| ())
}

#[test]
fn a_trusted_certificate_may_be_presented_itself() {
    let own = self_signed(|_| ());
    assert_eq!(as_server(&own, &own, "dns.test"), Ok(()));
    assert_eq!(as_client(&own, &own), Ok(()));
    let other = self_signed(|_| ());
    assert!(as_server(&own, &other, "dns.test").is_err());
    assert!(as_client(&own, &other).is_err());
    let mut touched = own.to_vec();
    *touched.last_mut().unwrap() ^= 1;
    assert!(as_server(&own, &touched.into(), "dns.test").is_err());
}

#[test]
fn an_invalid_certificate_does_not_void_the_others() {
    let (own, broken) = (self_signed(|_| ()), CertificateDer::from(vec![0x30, 0]));
    let trusted = Trusted::of(vec![broken.clone(), own.clone(), broken.clone()], "test").unwrap();
    let verifier = trusted.server_verifier(provider()).unwrap();
    let accepts = |presented: &CertificateDer<'_>| {
        let name = ServerName::try_from("dns.test").unwrap();
        let checked = verifier.verify_server_cert(presented, &[], &name, &[], UnixTime::now());
        checked.is_ok()
    };
    assert!(accepts(&own) && !accepts(&broken));
    assert!(Trusted::of(vec![broken], "test").is_err());
}

#[test]
fn its_name_dates_and_purpose_are_checked() {
    let refused = |result: Result<(), Error>| match result {
        Err(Error::InvalidCertificate(why)) => why,
        other => panic!("{other:?}"),
    };
    let own = self_signed(|_| ());
    let why = refused(as_server(&own, &own, "other.test"));
    assert!(
        matches!(why, CertificateError::NotValidForNameContext { .. }),
        "{why:?}"
    );
    let old = self_signed(|params| params.not_after = date_time_ymd(2020, 1, 1));
    assert_eq!(
        refused(as_server(&old, &old, "dns.test")),
        CertificateError::Expired
    );
    assert_eq!(refused(as_client(&old, &old)), CertificateError::Expired);
    let new = self_signed(|params| params.not_before = date_time_ymd(2090, 1, 1));
    assert_eq!(
        refused(as_server(&new, &new, "dns.test")),
        CertificateError::NotValidYet
    );
    let of_client = self_signed(|params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    });
    let why = refused(as_server(&of_client, &of_client, "dns.test"));
    assert_eq!(why, CertificateError::InvalidPurpose);
    assert_eq!(as_client(&of_client, &of_client), Ok(()));
}

#[test]
fn a_file_that_cannot_be_used_leaves_what_was_read_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ca.pem");
    assert!(ReloadedTrust::open(&path, provider()).is_err());
    std::fs::write(&path, "").unwrap();
    assert!(ReloadedTrust::open(&path, provider()).is_err());
    let pem = || {
        let made = rcgen::generate_simple_self_signed(["dns.test".to_owned()]).unwrap();
        (made.cert.pem(), made.cert.der().clone())
    };
    let ((first, presented), (second, renewed)) = (pem(), pem());
    std::fs::write(&path, first).unwrap();
    let followed = ReloadedTrust::open(&path, provider()).unwrap();
    let accepts = |presented: &CertificateDer<'_>| {
        let name = ServerName::try_from("dns.test").unwrap();
        let checked = followed.verify_server_cert(presented, &[], &name, &[], UnixTime::now());
        checked.is_ok()
    };
    let later = || followed.verifier.age();
    assert!(accepts(&presented));
    std::fs::write(&path, "nothing").unwrap();
    later();
    assert!(accepts(&presented));
    std::fs::write(&path, second).unwrap();
    assert!(!accepts(&renewed), "not read again yet");
    later();
    assert!(accepts(&renewed) && !accepts(&presented));
}
