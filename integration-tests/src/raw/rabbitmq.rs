//! RabbitMQ by `lapin`: a durable queue (classic alone, quorum in a cluster), publisher confirms, `basic.get`.

use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::tcp::OwnedTLSConfig;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionBuilder};

use super::{Location, RawClient};
use crate::{Error, Result};

const POLL_INTERVAL: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct Client {
    channel: Channel,
    replicated: bool,
    _connection: Connection,
}

impl Client {
    pub(super) async fn connect(at: &Location) -> Result<Self> {
        let tls = OwnedTLSConfig { identity: None, cert_chain: at.trust()? };
        // Any node of a cluster will do.
        let mut connected = Err(Error::failed("the url names no host"));
        for url in at.each_url() {
            connected = open(url, tls.clone()).await;
            if connected.is_ok() {
                break;
            }
        }
        let connection = connected?;
        let channel = connection.create_channel().await.map_err(cannot("open a channel"))?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(cannot("ask for confirms"))?;
        Ok(Self { channel, replicated: at.each_url().len() > 1, _connection: connection })
    }
}

pub(crate) async fn open(url: String, tls: OwnedTLSConfig) -> Result<Connection> {
    let builder = ConnectionBuilder::new().map_err(cannot("begin"))?;
    builder.with_uri_str(url).with_tls_config(tls).connect().await.map_err(cannot("connect"))
}

#[async_trait]
impl RawClient for Client {
    async fn create(&mut self, name: &str) -> Result<()> {
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut arguments = FieldTable::default();
        if self.replicated {
            arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        }
        let declared = self.channel.queue_declare(name.into(), options, arguments).await;
        declared.map(drop).map_err(cannot("declare a queue"))
    }

    async fn put(&mut self, name: &str, text: &str) -> Result<()> {
        let persistent = BasicProperties::default().with_delivery_mode(2);
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let sent = self.channel.basic_publish("".into(), name.into(), options, text.as_bytes(), persistent).await;
        match sent.map_err(cannot("publish"))?.await.map_err(cannot("publish"))? {
            Confirmation::Ack(None) => Ok(()),
            other => Err(Error::failed(format!("rabbitmq did not take the message: {other:?}"))),
        }
    }

    async fn take(&mut self, name: &str) -> Result<String> {
        loop {
            let got = self.channel.basic_get(name.into(), BasicGetOptions { no_ack: true }).await;
            if let Some(message) = got.map_err(cannot("get a message"))? {
                return Ok(String::from_utf8_lossy(&message.delivery.data).into_owned());
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    async fn remove(&mut self, name: &str) -> Result<()> {
        let removed = self.channel.queue_delete(name.into(), QueueDeleteOptions::default()).await;
        removed.map(drop).map_err(cannot("delete a queue"))
    }
}

fn cannot(what: &'static str) -> impl Fn(lapin::Error) -> Error {
    move |error| Error::caused(format!("rabbitmq's client could not {what}"), error)
}
