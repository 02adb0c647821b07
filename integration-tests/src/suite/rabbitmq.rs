//! Means of the harness at RabbitMQ, by `lapin` and the management interface.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::{
    BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeclareOptions,
    QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::Mutex;

use super::Foreign;
use super::means::{Means, Place};
use crate::proxy::Proxy;
use crate::raw::rabbitmq::open;
use crate::{Error, Result, management, run};

const POLL_INTERVAL: Duration = Duration::from_millis(10);
const EFFECT_LIMIT: Duration = Duration::from_secs(20);
/// The size of a confirm's frame and the number of its method, `basic.ack`: what of it is the same in each.
const CONFIRM_FRAME: [u8; 8] = [0, 0, 0, 13, 0, 60, 0, 80];

pub(super) struct RabbitMeans {
    url: String,
    management: Option<SocketAddr>,
    connection: Mutex<Option<Connection>>,
    /// Queues that others stand in for, with the arguments they were declared with; none for one that was not there.
    replaced: Mutex<HashMap<String, Option<Arguments>>>,
}

type Arguments = serde_json::Map<String, serde_json::Value>;

impl RabbitMeans {
    pub(super) fn new(url: String, management: Option<SocketAddr>) -> Self {
        Self { url, management, connection: Mutex::new(None), replaced: Mutex::default() }
    }

    /// A channel for one thing: one that fails is closed by the server.
    async fn channel(&self) -> Result<Channel> {
        let mut connection = self.connection.lock().await;
        if !connection.as_ref().is_some_and(|connection| connection.status().connected()) {
            *connection = Some(self.connect().await?);
        }
        match &*connection {
            Some(connection) => connection.create_channel().await.map_err(cannot("open a channel")),
            None => Err(Error::failed("rabbitmq's client has no connection")),
        }
    }

    async fn connect(&self) -> Result<Connection> {
        let at = crate::raw::Location::parse(&self.url, None)?;
        let mut connected = Err(Error::failed("the url names no host"));
        // Any node of a cluster will do.
        for url in at.each_url() {
            connected = open(url, lapin::tcp::OwnedTLSConfig::default()).await;
            if connected.is_ok() {
                break;
            }
        }
        connected
    }

    async fn named(&self, what: &str, prefix: &str) -> Result<Vec<String>> {
        let Some(management) = self.management else {
            return Err(Error::unsupported("what a case left at rabbitmq is known by its management interface only"));
        };
        management::names(management, what, prefix).await
    }
}

#[async_trait]
impl Means for RabbitMeans {
    async fn consumers(&self, source: &str) -> Result<usize> {
        let channel = self.channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(source.into(), passive, FieldTable::default()).await;
        let count = queue.map_err(cannot("look at a queue"))?.consumer_count();
        end(&channel).await;
        usize::try_from(count).map_err(|error| Error::caused("rabbitmq's count of consumers is no count", error))
    }

    async fn remove_queue(&self, queue: &str) -> Result<()> {
        let channel = self.channel().await?;
        let removed = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
        removed.map_err(cannot("delete a queue"))?;
        end(&channel).await;
        Ok(())
    }

    async fn set_refusing(&self, queue: &str, refusing: bool) -> Result<()> {
        let Some(management) = self.management else {
            return Err(Error::unsupported(
                "how a queue was declared is known by rabbitmq's management interface only",
            ));
        };
        let channel = self.channel().await?;
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let mut replaced = self.replaced.lock().await;
        // A quorum queue takes a message before it knows that it is full, so a classic one stands in for it.
        let arguments = if refusing {
            if !replaced.contains_key(queue) {
                replaced.insert(queue.to_owned(), management::arguments(management, queue).await?);
            }
            let mut arguments = FieldTable::default();
            arguments.insert("x-max-length".into(), AMQPValue::LongInt(0));
            arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
            Some(arguments)
        } else {
            replaced.remove(queue).flatten().map(|arguments| table(&arguments))
        };
        let removed = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
        removed.map_err(cannot("delete a queue"))?;
        if let Some(arguments) = arguments {
            let declared = channel.queue_declare(queue.into(), options, arguments).await;
            declared.map_err(cannot("declare a queue"))?;
        }
        end(&channel).await;
        Ok(())
    }

    async fn publish(&self, to: &Place, message: &Foreign) -> Result<()> {
        let channel = self.channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await.map_err(cannot("ask for confirms"))?;
        let (exchange, key) = match to {
            Place::Queue(queue) => ("", queue.as_str()),
            Place::Topic(topic) => (topic.as_str(), ""),
        };
        let options = BasicPublishOptions { mandatory: exchange.is_empty(), ..BasicPublishOptions::default() };
        let payload = message.payload.as_deref().unwrap_or_default();
        let sent = channel.basic_publish(exchange.into(), key.into(), options, payload, properties(message)).await;
        match sent.map_err(cannot("publish"))?.await.map_err(cannot("publish"))? {
            Confirmation::Ack(None) => {}
            other => return Err(Error::failed(format!("rabbitmq did not take the message: {other:?}"))),
        }
        end(&channel).await;
        Ok(())
    }

    async fn take(&self, queue: &str) -> Result<Foreign> {
        let channel = self.channel().await?;
        let taken = run::until(format!("a message in {queue}"), EFFECT_LIMIT, || async {
            let got = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await;
            match got.map_err(cannot("get a message"))? {
                Some(message) => Ok(message),
                None => {
                    tokio::time::sleep(POLL_INTERVAL).await;
                    Err(Error::failed("it is empty"))
                }
            }
        });
        let message = taken.await?;
        end(&channel).await;
        Ok(seen(message.delivery.data, &message.delivery.properties))
    }

    async fn before_storing(&self, _prefix: &str) -> Result<u64> {
        // A confirm is seen on its way to the client that will not get it.
        Ok(0)
    }

    async fn has_stored(&self, _prefix: &str, _before: u64, count: u32, proxy: &Proxy) -> Result<bool> {
        let confirms =
            |answers: Vec<u8>| answers.windows(CONFIRM_FRAME.len()).filter(|bytes| *bytes == CONFIRM_FRAME).count();
        let seen: usize = proxy.answers().into_iter().map(confirms).sum();
        Ok(seen >= usize::try_from(count).unwrap_or(usize::MAX))
    }

    async fn sweep(&self, prefix: &str) -> Result<usize> {
        let channel = self.channel().await?;
        for queue in self.named("queues", prefix).await? {
            let removed = channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await;
            removed.map_err(cannot("delete a queue"))?;
        }
        for exchange in self.named("exchanges", prefix).await? {
            let removed = channel.exchange_delete(exchange.as_str().into(), ExchangeDeleteOptions::default()).await;
            removed.map_err(cannot("delete an exchange"))?;
        }
        end(&channel).await;
        Ok(self.named("queues", prefix).await?.len() + self.named("exchanges", prefix).await?.len())
    }

    async fn version(&self) -> Result<String> {
        match self.management {
            Some(management) => management::version(management).await,
            None => Ok("of an unknown version".to_owned()),
        }
    }

    async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take() {
            // The result is of no use: the connection is not needed any more, and the server may be gone.
            let _ = tokio::time::timeout(EFFECT_LIMIT, connection.close(200, "done".into())).await;
        }
    }
}

async fn end(channel: &Channel) {
    // Its work is done; the connection's end would close it too.
    let _ = channel.close(200, "done".into()).await;
}

fn table(arguments: &Arguments) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        let value = match value {
            serde_json::Value::String(text) => AMQPValue::LongString(text.as_str().into()),
            serde_json::Value::Bool(yes) => AMQPValue::Boolean(*yes),
            other => AMQPValue::LongLongInt(other.as_i64().unwrap_or_default()),
        };
        table.insert(name.as_str().into(), value);
    }
    table
}

fn properties(message: &Foreign) -> BasicProperties {
    let mut headers = FieldTable::default();
    for (name, value) in &message.headers {
        headers.insert(name.as_str().into(), AMQPValue::LongString(value.clone().into()));
    }
    let mut properties = BasicProperties::default().with_delivery_mode(2).with_headers(headers);
    for (name, value) in &message.properties {
        let value = value.as_str().into();
        properties = match *name {
            "message_id" => properties.with_message_id(value),
            "type" => properties.with_type(value),
            "content_type" => properties.with_content_type(value),
            "correlation_id" => properties.with_correlation_id(value),
            "reply_to" => properties.with_reply_to(value),
            "expiration" => properties.with_expiration(value),
            _ => properties,
        };
    }
    properties
}

fn seen(payload: Vec<u8>, properties: &BasicProperties) -> Foreign {
    let headers = properties.headers().iter().flat_map(|table| table.inner()).map(|(name, value)| {
        let bytes = match value {
            AMQPValue::LongString(text) => text.as_bytes().to_vec(),
            other => format!("{other:?}").into_bytes(),
        };
        (name.to_string(), bytes)
    });
    let native = [
        ("message_id", properties.message_id()),
        ("type", properties.kind()),
        ("content_type", properties.content_type()),
        ("correlation_id", properties.correlation_id()),
        ("reply_to", properties.reply_to()),
        ("expiration", properties.expiration()),
    ];
    let native = native.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?.to_string())));
    Foreign { payload: Some(payload), key: None, headers: headers.collect(), properties: native.collect() }
}

fn cannot(what: &'static str) -> impl Fn(lapin::Error) -> Error {
    move |error| Error::caused(format!("rabbitmq's client could not {what}"), error)
}
