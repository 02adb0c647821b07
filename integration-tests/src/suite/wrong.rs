//! Addresses at which connecting has to fail, each with the kinds of error that say so.

use std::net::SocketAddr;

use messaging_conformance::WrongAddress;
use messaging_core::{BrokerUrl, ConnectOptions, ErrorKind, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::Setup;
use crate::doors::with_address;
use crate::proxy::TlsFront;
use crate::run::{self, Claim};
use crate::tls::certificates;
use crate::{Broker, Door, Error, Kind, Result};

/// Kinds of failure at a port that speaks another protocol, or another dialect of it: a client cannot always tell that from a port
/// that nobody listens at.
const WRONG_PROTOCOL: &[ErrorKind] = &[ErrorKind::Protocol, ErrorKind::Unreachable];
/// A certificate that is not trusted: nobody to be talked to is there, or what to trust is not set.
const UNTRUSTED_CERTIFICATE: &[ErrorKind] = &[ErrorKind::Protocol, ErrorKind::Unreachable, ErrorKind::Config];

/// The addresses, and what listens at those that are not the server's.
pub(super) struct WrongPlaces {
    addresses: Vec<WrongAddress>,
    http: JoinHandle<()>,
    _fronts: Vec<TlsFront>,
    _claims: Vec<Claim>,
}

impl WrongPlaces {
    /// Opens what has to listen, and finds what this server can be mistaken in.
    pub(super) async fn prepare(setup: &Setup, broker: &dyn Broker) -> Result<Self> {
        let (closed, http) = (Claim::new()?, Claim::new()?);
        let listener = run::listen(local(&http)).await?;
        let mut made = Making { setup, broker, addresses: Vec::new() };
        made.at("closed port", local(&closed), &[ErrorKind::Unreachable])?;
        made.at("an http server on the port", local(&http), WRONG_PROTOCOL)?;
        made.login()?;
        let fronts = made.encryption().await?;
        Ok(Self {
            addresses: made.addresses,
            http: run::spawn(answer_in_http(listener)),
            _fronts: fronts,
            _claims: vec![closed, http],
        })
    }

    pub(super) fn addresses(&self) -> Vec<WrongAddress> {
        self.addresses.clone()
    }
}

impl Drop for WrongPlaces {
    fn drop(&mut self) {
        self.http.abort();
    }
}

struct Making<'a> {
    setup: &'a Setup,
    broker: &'a dyn Broker,
    addresses: Vec<WrongAddress>,
}

impl Making<'_> {
    fn add(&mut self, what: &'static str, url: &str, settings: Settings, kinds: &[ErrorKind]) -> Result<()> {
        let parsed = BrokerUrl::parse(url).map_err(|error| Error::failed(error.to_string()))?;
        let options = ConnectOptions::new(parsed).with_settings(settings);
        self.addresses.push(WrongAddress { what, options, kinds: kinds.to_vec(), secret: None });
        Ok(())
    }

    /// The server's URL at another address.
    fn at(&mut self, what: &'static str, address: SocketAddr, kinds: &[ErrorKind]) -> Result<()> {
        let url = with_address(&self.broker.url(), address);
        self.add(what, &url, self.setup.settings(false), kinds)
    }

    fn login(&mut self) -> Result<()> {
        if let Some(accounts) = self.broker.accounts() {
            let wrong = accounts.wrong.clone();
            if let Ok(url) = self.broker.url_at(Door::Login, Some(&wrong)).or_else(|error| match self.broker.kind() {
                // A container has no doors but the plain one, which wants a login too.
                Kind::RabbitMq => self.broker.url_at(Door::Plain, Some(&wrong)),
                _ => Err(error),
            }) {
                self.add("wrong password", &url, self.setup.settings(false), &[ErrorKind::Unauthenticated])?;
                if let Some(address) = self.addresses.last_mut() {
                    address.secret = Some(wrong.password);
                }
            }
        }
        if self.broker.kind() == Kind::RabbitMq {
            let url = self.broker.url();
            let url = url.rsplit_once('/').map_or(url.as_str(), |(start, _)| start);
            let kinds = [ErrorKind::NotFound, ErrorKind::Forbidden];
            self.add("unknown virtual host", &format!("{url}/nobody-made-this"), self.setup.settings(false), &kinds)?;
        }
        Ok(())
    }

    /// Where the server has an encrypted door.
    async fn encryption(&mut self) -> Result<Vec<TlsFront>> {
        let Ok(encrypted) = self.broker.url_at(Door::Tls, None) else { return Ok(Vec::new()) };
        let (plain, tls) = (self.broker.address(Door::Plain)?, self.broker.address(Door::Tls)?);
        let settings = self.setup.settings(false);
        if plain != tls {
            self.at("no encryption at an encrypted port", tls, WRONG_PROTOCOL)?;
            self.add(
                "encryption at a plain port",
                &with_address(&encrypted, plain),
                settings.clone(),
                UNTRUSTED_CERTIFICATE,
            )?;
        }
        self.add("an authority that is not trusted", &encrypted, settings, UNTRUSTED_CERTIFICATE)?;
        let made = certificates()?;
        let Some(trusting) = self.setup.trusting(&made.authority) else { return Ok(Vec::new()) };
        let mut fronts = Vec::new();
        for (what, identity) in
            [("a certificate that ran out", &made.expired), ("a certificate for another name", &made.another_name)]
        {
            let front = TlsFront::start(identity, plain).await?;
            self.add(what, &with_address(&encrypted, front.address()), trusting.clone(), UNTRUSTED_CERTIFICATE)?;
            fronts.push(front);
        }
        if let Some(strange) = self.setup.trusting(&made.stranger) {
            self.add("the authority of somebody else", &encrypted, strange, UNTRUSTED_CERTIFICATE)?;
        }
        Ok(fronts)
    }
}

/// Says to everybody what a web server says to somebody who does not speak HTTP.
async fn answer_in_http(listener: TcpListener) {
    loop {
        let Ok((mut client, _)) = listener.accept().await else { continue };
        run::spawn(async move {
            let mut heard = [0; 1024];
            // A client that says nothing is not answered, by a web server neither.
            if client.read(&mut heard).await.is_ok_and(|length| length > 0) {
                let _ = client
                    .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                    .await;
                let _ = client.shutdown().await;
            }
        });
    }
}

fn local(claim: &Claim) -> SocketAddr {
    crate::doors::local(claim.port())
}
