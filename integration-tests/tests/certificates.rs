//! The certificates that tests are given, asked by a TLS client of their own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

use std::sync::Arc;

use integration_tests::{
    proxy::TlsFront,
    tls::{Identity, certificates},
};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs::default_provider,
        pki_types::{CertificateDer, ServerName, pem::PemObject},
    },
};

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

#[tokio::test]
async fn the_server_s_is_good_for_this_machine_by_name_and_address() {
    let all = certificates().unwrap();

    for name in ["localhost", "127.0.0.1"] {
        handshake(&all.server, &all.authority, name).await.unwrap();
    }
}

#[tokio::test]
async fn each_bad_one_is_refused_for_its_own_reason() {
    let all = certificates().unwrap();

    let expired = handshake(&all.expired, &all.authority, "localhost").await.unwrap_err();
    assert!(expired.contains("expired"), "{expired}");
    let another = handshake(&all.another_name, &all.authority, "localhost").await.unwrap_err();
    assert!(another.contains("name"), "{another}");
    handshake(&all.another_name, &all.authority, "elsewhere.example").await.unwrap();
    let stranger = handshake(&all.server, &all.stranger, "localhost").await.unwrap_err();
    assert!(stranger.contains("issuer"), "{stranger}");
}
