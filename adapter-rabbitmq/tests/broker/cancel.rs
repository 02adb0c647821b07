//! A cancel that the broker never answers: no consumer is left behind of which the adapter does not know.

use std::future::poll_fn;
use std::io::Result as IoResult;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{connect, fresh, options_with, raw, server};
use integration_tests::cases;
use integration_tests::runner::{Case, Verdict};
use lapin::Channel;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use messaging_core::{
    Broker, BrokerUrl, ConsumeOptions, Consumer, Destination, Event, Flow, Message, PublishOptions, PublisherExt,
    QueueName,
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(40);
/// After so long a call counts as unanswered.
const REQUEST_TIMEOUT: &str = "3s";

pub(crate) fn cases() -> Vec<Case> {
    cases![a_consumer_that_pauses_is_gone_all_the_same, a_consumer_that_resumes_meanwhile_is_there_once,]
}

async fn a_consumer_that_pauses_is_gone_all_the_same() -> Verdict {
    let mut setup = Setup::begin().await?;
    setup.wait_for_consumers(1).await?;

    setup.front.swallow(true);
    setup.consumer.control().set_flow(Flow::Paused);
    setup.wait_for_consumers(0).await?;

    setup.front.swallow(false);
    setup.consumer.control().set_flow(Flow::Running);
    setup.gets("after the pause").await?;
    setup.wait_for_consumers(1).await
}

async fn a_consumer_that_resumes_meanwhile_is_there_once() -> Verdict {
    let mut setup = Setup::begin().await?;
    setup.front.swallow(true);
    setup.consumer.control().set_flow(Flow::Paused);
    setup.front.until_swallowed().await?;

    setup.front.swallow(false);
    setup.consumer.control().set_flow(Flow::Running);

    while timeout(PATIENCE, poll_fn(|cx| setup.consumer.poll_event(cx))).await? != Event::Reconnected {}
    setup.wait_for_consumers(1).await?;
    setup.gets("to the only consumer").await
}

/// A consumer whose requests go through a [`Front`], and a look at the broker past it.
struct Setup {
    front: Front,
    broker: Arc<dyn Broker>,
    consumer: Consumer,
    queue: QueueName,
    behind: Channel,
    _connection: lapin::Connection,
}

impl Setup {
    async fn begin() -> Verdict<Self> {
        let server = server().await?;
        let url = BrokerUrl::parse(&server.url())?;
        let upstream = url.hosts().first().ok_or("a host")?.to_string();
        let front = Front::start(upstream.clone()).await?;
        let through = server.url().replace(&upstream, &front.address.to_string());
        let broker = connect(options_with(&through, [("request_timeout", json!(REQUEST_TIMEOUT))])?).await?;
        let queue = QueueName::parse(fresh("cancelled"))?;
        let consumer = broker.consume(&queue, ConsumeOptions::default()).await?;
        let (_connection, behind) = raw(&server.url()).await?;
        Ok(Self { front, broker, consumer, queue, behind, _connection })
    }

    /// Waits until the broker has so many consumers of the queue.
    async fn wait_for_consumers(&mut self, count: u32) -> Verdict {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let settled = async {
            loop {
                let name = self.queue.as_str().into();
                let queue = self.behind.queue_declare(name, passive, FieldTable::default()).await?;
                if queue.consumer_count() == count {
                    return Ok::<(), lapin::Error>(());
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, settled).await.map_err(|_| format!("never had {count} consumers"))??;
        Ok(())
    }

    async fn gets(&mut self, payload: &'static str) -> Verdict {
        let to = Destination::Queue(self.queue.clone());
        self.broker.publisher(&to, PublishOptions::default()).await?.publish(Message::new(payload)).await?;
        let delivery = timeout(PATIENCE, self.consumer.next()).await??.ok_or("a delivery")?;
        assert_eq!(delivery.message().payload().as_ref(), payload.as_bytes());
        delivery.ack().await?;
        Ok(())
    }
}

/// Stands before the broker, and on demand lets no `basic.cancel` through.
struct Front {
    address: SocketAddr,
    swallows: watch::Sender<bool>,
    swallowed: watch::Receiver<u64>,
}

impl Front {
    async fn start(upstream: String) -> IoResult<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (swallows, swallowing) = watch::channel(false);
        let (count, swallowed) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (upstream, swallowing, count) = (upstream.clone(), swallowing.clone(), count.clone());
                tokio::spawn(async move { join(client, &upstream, &swallowing, &count).await });
            }
        });
        Ok(Self { address, swallows, swallowed })
    }

    fn swallow(&self, does: bool) {
        self.swallows.send_replace(does);
    }

    async fn until_swallowed(&mut self) -> Verdict {
        timeout(PATIENCE, self.swallowed.wait_for(|count| *count > 0)).await??;
        Ok(())
    }
}

async fn join(
    mut client: TcpStream,
    upstream: &str,
    swallows: &watch::Receiver<bool>,
    count: &watch::Sender<u64>,
) -> IoResult<()> {
    let mut server = TcpStream::connect(upstream).await?;
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    // The end of one direction ends both.
    tokio::select! {
        ended = pass_on(&mut from_client, &mut to_server, swallows, count) => ended,
        ended = copy(&mut from_server, &mut to_client) => ended.map(drop),
    }
}

async fn pass_on(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    swallows: &watch::Receiver<bool>,
    count: &watch::Sender<u64>,
) -> IoResult<()> {
    let mut protocol = [0; 8];
    from.read_exact(&mut protocol).await?;
    to.write_all(&protocol).await?;
    loop {
        let frame = read_frame(from).await?;
        if is_cancel(&frame) && *swallows.borrow() {
            count.send_modify(|count| *count += 1);
        } else {
            to.write_all(&frame).await?;
        }
    }
}

/// A type, a channel in two bytes, a length in four, so many bytes, and an end.
async fn read_frame(from: &mut (impl AsyncReadExt + Unpin)) -> IoResult<Vec<u8>> {
    let mut frame = vec![0; 7];
    from.read_exact(&mut frame).await?;
    let length = u32::from_be_bytes([frame[3], frame[4], frame[5], frame[6]]) as usize;
    frame.resize(7 + length + 1, 0);
    from.read_exact(&mut frame[7..]).await?;
    Ok(frame)
}

/// A method of class 60 with the number 30.
fn is_cancel(frame: &[u8]) -> bool {
    frame[0] == 1 && frame[7..].starts_with(&[0, 60, 0, 30])
}
