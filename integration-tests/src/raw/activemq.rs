//! ActiveMQ Artemis by `fe2o3-amqp`, in AMQP 1.0: a durable anycast queue.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use async_trait::async_trait;
use fe2o3_amqp::connection::ConnectionHandle;
use fe2o3_amqp::sasl_profile::SaslProfile;
use fe2o3_amqp::session::SessionHandle;
use fe2o3_amqp::types::messaging::{Header, Message, Outcome, Source, Target};
use fe2o3_amqp::types::primitives::Symbol;
use fe2o3_amqp::{Connection, Receiver, Sender, Session};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::{Location, RawClient};
use crate::{Error, Result};

pub(super) struct Client {
    session: SessionHandle<()>,
    senders: HashMap<String, Sender>,
    receivers: HashMap<String, Receiver>,
    _connection: ConnectionHandle<()>,
}

impl Client {
    pub(super) async fn connect(at: &Location) -> Result<Self> {
        let mut connection = open(at).await?;
        let session = Session::begin(&mut connection).await.map_err(cannot("begin a session"))?;
        Ok(Self { session, senders: HashMap::new(), receivers: HashMap::new(), _connection: connection })
    }

    async fn sender(&mut self, name: &str) -> Result<&mut Sender> {
        if !self.senders.contains_key(name) {
            // Without the capability the server makes a multicast address, and drops what nobody subscribed to.
            let target = Target::builder().address(name).capabilities(vec![Symbol::from("queue")]).build();
            let attached = Sender::builder().name(link("to", name)).target(target).attach(&mut self.session).await;
            self.senders.insert(name.to_owned(), attached.map_err(cannot("attach a sender"))?);
        }
        self.senders.get_mut(name).ok_or_else(|| Error::failed("activemq's client has no sender"))
    }

    async fn receiver(&mut self, name: &str) -> Result<&mut Receiver> {
        if !self.receivers.contains_key(name) {
            let source = Source::builder().address(name).capabilities(vec![Symbol::from("queue")]).build();
            let attached = Receiver::builder().name(link("from", name)).source(source).attach(&mut self.session).await;
            self.receivers.insert(name.to_owned(), attached.map_err(cannot("attach a receiver"))?);
        }
        self.receivers.get_mut(name).ok_or_else(|| Error::failed("activemq's client has no receiver"))
    }
}

#[async_trait]
impl RawClient for Client {
    async fn create(&mut self, name: &str) -> Result<()> {
        // The server makes the queue for whoever wants to receive from it; its first message comes to this receiver.
        self.receiver(name).await.map(drop)
    }

    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        let header = Header::builder().durable(true).build();
        let message = Message::builder().header(header).value(text.to_owned()).build();
        match self.sender(name).await?.send(message).await.map_err(cannot("send"))? {
            Outcome::Accepted(_) => Ok(()),
            other => Err(Error::failed(format!("activemq did not take the message: {other:?}"))),
        }
    }

    async fn take(&mut self, name: &str) -> Result<String> {
        let receiver = self.receiver(name).await?;
        let delivery = receiver.recv::<String>().await.map_err(cannot("receive"))?;
        receiver.accept(&delivery).await.map_err(cannot("accept"))?;
        Ok(delivery.body().clone())
    }

    async fn remove(&mut self, name: &str) -> Result<()> {
        // The queue itself stays: removing it takes a management call, and a fresh name harms nobody.
        self.receivers.remove(name);
        self.senders.remove(name);
        Ok(())
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.debug_struct("Client").finish_non_exhaustive()
    }
}

async fn open(at: &Location) -> Result<ConnectionHandle<()>> {
    let mut builder = Connection::builder().container_id(super::fresh_name("raw")).hostname("127.0.0.1").scheme("amqp");
    if let Some((username, password)) = at.login() {
        builder =
            builder.sasl_profile(SaslProfile::Plain { username: username.to_owned(), password: password.to_owned() });
    }
    // The stream is opened here because the client leaves Nagle's algorithm on: 22 ms a refill of credit.
    let stream = TcpStream::connect(at.first_address().await?).await.map_err(cannot("connect"))?;
    stream.set_nodelay(true).map_err(cannot("connect"))?;
    if !at.is_encrypted() {
        return builder.open_with_stream(stream).await.map_err(cannot("open a connection"));
    }
    let name = ServerName::try_from("127.0.0.1").map_err(cannot("name the server"))?;
    let stream = tls(at)?.connect(name, stream).await.map_err(cannot("trust the server"))?;
    builder.open_with_stream(stream).await.map_err(cannot("open a connection"))
}

fn tls(at: &Location) -> Result<TlsConnector> {
    let mut trusted = RootCertStore::empty();
    if let Some(path) = at.trust_file() {
        let authority = CertificateDer::from_pem_file(path).map_err(cannot("read the authority"))?;
        trusted.add(authority).map_err(cannot("trust the authority"))?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(cannot("use TLS"))?
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Link names must differ within a session; the queue's name makes them readable in the server's log.
fn link(way: &str, name: &str) -> String {
    format!("{way}-{name}")
}

fn cannot<E: Display>(what: &'static str) -> impl Fn(E) -> Error {
    move |error| Error::failed(format!("activemq's client could not {what}: {error}"))
}
