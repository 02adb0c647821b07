//! A TLS server that forwards what it decrypts.
//!
//! With it any broker answers with any certificate: an expired one, or one for another name, without being set up for it.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

use crate::run::{self, Claim};
use crate::tls::Identity;
use crate::{Error, Result};

/// A TLS listener in front of a plain address; it ends when dropped.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    task: JoinHandle<()>,
    _claim: Claim,
}

impl TlsFront {
    /// Listens on a free port of 127.0.0.1 with `identity`'s certificate, and forwards to `upstream`.
    ///
    /// # Errors
    /// If no port is free or the certificate is unreadable.
    pub async fn start(identity: &Identity, upstream: SocketAddr) -> Result<Self> {
        let acceptor = TlsAcceptor::from(Arc::new(server_config(identity)?));
        let claim = Claim::new()?;
        let address = SocketAddr::from(([127, 0, 0, 1], claim.port()));
        let listener = run::listen(address).await?;
        let task = run::spawn(accept(listener, acceptor, upstream));
        Ok(Self { address, task, _claim: claim })
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn server_config(identity: &Identity) -> Result<ServerConfig> {
    let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| builder.with_no_client_auth())
        .and_then(|builder| builder.with_single_cert(identity.chain()?, identity.key()?))
        .map_err(|error| Error::caused(format!("the certificate {} cannot be used", identity.name()), error))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, upstream: SocketAddr) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let acceptor = acceptor.clone();
        run::spawn(async move {
            // A client that refuses the certificate ends the handshake: expected here.
            let Ok(mut client) = acceptor.accept(client).await else { return };
            let Ok(mut server) = TcpStream::connect(upstream).await else { return };
            let _ = copy_bidirectional(&mut client, &mut server).await;
        });
    }
}
