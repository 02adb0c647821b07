//! The certificates that tests are given, asked by a TLS client of their own.

use std::sync::Arc;

use integration_tests::cases;
use integration_tests::proxy::TlsFront;
use integration_tests::runner::{Case, Verdict};
use integration_tests::tls::{Identity, certificates};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

pub(crate) fn cases() -> Vec<Case> {
    cases![the_server_s_is_good_for_this_machine_by_name_and_address, each_bad_one_is_refused_for_its_own_reason,]
}

async fn handshake(identity: &Identity, trust: &std::path::Path, name: &'static str) -> Result<(), String> {
    let behind = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = TlsFront::start(identity, behind.local_addr().unwrap()).await.unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(trust).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(front.address()).await.unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(name).unwrap(), stream).await;
    connected.map(drop).map_err(|error| error.to_string().to_lowercase())
}

async fn the_server_s_is_good_for_this_machine_by_name_and_address() -> Verdict {
    let all = certificates().unwrap();

    for name in ["localhost", "127.0.0.1"] {
        handshake(&all.server, &all.authority, name).await.unwrap();
    }
    Ok(())
}

async fn each_bad_one_is_refused_for_its_own_reason() -> Verdict {
    let all = certificates().unwrap();

    let expired = handshake(&all.expired, &all.authority, "localhost").await.unwrap_err();
    assert!(expired.contains("expired"), "{expired}");
    let another = handshake(&all.another_name, &all.authority, "localhost").await.unwrap_err();
    assert!(another.contains("name"), "{another}");
    handshake(&all.another_name, &all.authority, "elsewhere.example").await.unwrap();
    let stranger = handshake(&all.server, &all.stranger, "localhost").await.unwrap_err();
    assert!(stranger.contains("issuer"), "{stranger}");
    Ok(())
}
