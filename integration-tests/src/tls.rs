//! Certificates for tests, made at run time: none is in the repository, and none can run out there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};
use tokio_rustls::rustls;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::run::Run;
use crate::{Error, Result};

const ONE_YEAR: Duration = Duration::days(365);

/// A certificate authority of this run with what it signed, each as PEM files in the run's folder.
#[derive(Debug)]
pub struct Certificates {
    /// The authority's certificate: what a client is told to trust.
    pub authority: PathBuf,
    /// A server's, good for `localhost` and 127.0.0.1.
    pub server: Identity,
    /// A client's, for mutual TLS.
    pub client: Identity,
    /// A server's that ran out yesterday.
    pub expired: Identity,
    /// A server's that is good for `elsewhere.example` alone.
    pub another_name: Identity,
    /// An authority that signed none of these: trusting it must not help.
    pub stranger: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone)]
pub struct Identity {
    name: String,
    certificate: PathBuf,
    key: PathBuf,
    both: PathBuf,
}

impl Identity {
    /// Its name here.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file with the certificate.
    pub fn certificate_file(&self) -> &Path {
        &self.certificate
    }

    /// The file with the key, in PKCS#8.
    pub fn key_file(&self) -> &Path {
        &self.key
    }

    /// A file with the key and then the certificate, as Java servers want it.
    pub fn bundle_file(&self) -> &Path {
        &self.both
    }

    pub(crate) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, rustls::Error> {
        let read = CertificateDer::pem_file_iter(&self.certificate).and_then(Iterator::collect);
        read.map_err(|error| rustls::Error::General(error.to_string()))
    }

    pub(crate) fn key(&self) -> Result<PrivateKeyDer<'static>, rustls::Error> {
        PrivateKeyDer::from_pem_file(&self.key).map_err(|error| rustls::Error::General(error.to_string()))
    }
}

/// The certificates of this run, made at the first call.
///
/// # Errors
/// If the run's folder cannot be written.
pub fn certificates() -> Result<&'static Certificates> {
    static MADE: OnceLock<Result<Certificates>> = OnceLock::new();
    let made = MADE.get_or_init(|| make(&Run::current()?.folder().join("certificates")));
    made.as_ref().map_err(|error| Error::new(error.kind(), error.to_string()))
}

fn make(folder: &Path) -> Result<Certificates> {
    fs::create_dir_all(folder).map_err(Error::at(folder))?;
    let issuer = authority("messaging tests")?;
    let stranger = authority("a stranger")?;
    let now = OffsetDateTime::now_utc();
    let here = ["localhost", "127.0.0.1"].as_slice();
    Ok(Certificates {
        authority: write(folder, "authority.pem", &issuer.pem())?,
        stranger: write(folder, "stranger.pem", &stranger.pem())?,
        server: sign(folder, "server", here, now + ONE_YEAR, &issuer)?,
        client: sign(folder, "client", &["client"], now + ONE_YEAR, &issuer)?,
        expired: sign(folder, "expired", here, now - Duration::DAY, &issuer)?,
        another_name: sign(folder, "another-name", &["elsewhere.example"], now + ONE_YEAR, &issuer)?,
    })
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Result<Issuer> {
    let mut params = params(name, &[], OffsetDateTime::now_utc() + ONE_YEAR)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, key()?).map_err(cannot("sign the test authority"))
}

fn sign(folder: &Path, name: &str, hosts: &[&str], until: OffsetDateTime, issuer: &Issuer) -> Result<Identity> {
    let key = key()?;
    let mut params = params(name, hosts, until)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&key, issuer).map_err(cannot("sign a test certificate"))?.pem();
    let key = key.serialize_pem();
    Ok(Identity {
        name: name.to_owned(),
        both: write(folder, &format!("{name}.bundle.pem"), &format!("{key}{certificate}"))?,
        certificate: write(folder, &format!("{name}.pem"), &certificate)?,
        key: write(folder, &format!("{name}.key.pem"), &key)?,
    })
}

fn params(name: &str, hosts: &[&str], until: OffsetDateTime) -> Result<CertificateParams> {
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).map_err(cannot("name a test certificate"))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = until - ONE_YEAR - Duration::days(30);
    params.not_after = until;
    Ok(params)
}

fn key() -> Result<KeyPair> {
    KeyPair::generate().map_err(cannot("make a key"))
}

fn cannot(what: &'static str) -> impl Fn(rcgen::Error) -> Error {
    move |error| Error::caused(format!("cannot {what}"), error)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text).map_err(Error::at(&path))?;
    Ok(path)
}
