//! One fault each: what a client sees while it is on, and that all is well after.

use std::time::{Duration, Instant};

use integration_tests::proxy::{Direction, Fault};
use integration_tests::{Kind, Result, raw, until};

use crate::site::{SURE, Site, expect, hangs, in_time};
use integration_tests::runner::Verdict;

/// A message goes through, straight and by the proxy.
pub(crate) async fn answers(site: &Site) -> Verdict {
    raw::round_trip(site.kind, &site.broker.url()).await?;
    let before = site.broker.proxy().accepted();
    raw::round_trip(site.kind, &site.broker.proxied_url()).await?;
    expect(site.broker.proxy().accepted() > before, "the proxied url does not go by the proxy")?;
    Ok(())
}

/// Killed, it is gone at once, and what it had confirmed is there when it is started again (on LocalStack: gone too).
pub(crate) async fn killed_and_started_again(site: &Site) -> Verdict {
    let queue = site.queue().await?;
    if site.kind == Kind::RabbitMq {
        // A queue younger than this may die with the node: the broker's own weakness, and no condition tells its age.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    let mut client = site.client().await?;
    in_time(client.put(&queue, "kept")).await?;

    site.broker.kill().await?;
    let refused = tokio::net::TcpStream::connect(site.broker.address(integration_tests::Door::Plain)?).await.is_err();
    expect(refused, "somebody still listens after the kill")?;
    let put = tokio::time::timeout(Duration::from_secs(2), client.put(&queue, "nowhere")).await;
    expect(!matches!(put, Ok(Ok(()))), "a dead server confirmed a message")?;
    drop(client);
    site.broker.start().await?;

    expect_kept(site, &queue, "kept").await
}

/// Restarted as an administrator would, it has what it had.
pub(crate) async fn restarted(site: &Site) -> Verdict {
    let queue = site.queue().await?;
    let mut client = site.client().await?;
    in_time(client.put(&queue, "kept")).await?;
    drop(client);

    site.broker.restart().await?;

    expect_kept(site, &queue, "kept").await
}

/// Paused, it accepts connections and says nothing; resumed, it answers what it was asked meanwhile.
pub(crate) async fn paused(site: &Site) -> Verdict {
    let queue = site.queue().await?;
    let mut client = site.client().await?;
    in_time(client.put(&queue, "before")).await?;

    site.broker.pause().await?;
    let listening = tokio::net::TcpStream::connect(site.broker.address(integration_tests::Door::Plain)?).await.is_ok();
    expect(listening, "a paused server's port is closed")?;
    {
        let mut put = Box::pin(client.put(&queue, "meanwhile"));
        let silent = hangs(&mut put).await;
        site.broker.resume().await?;
        expect(silent, "a paused server answered")?;
        in_time(put).await?;
    }

    let mut other = site.client().await?;
    expect(in_time(other.take(&queue)).await? == "before", "the first message is not the first")?;
    expect(in_time(other.take(&queue)).await? == "meanwhile", "the message sent to a paused server is lost")?;
    Ok(())
}

/// Cut, the connection is gone for both sides; the server is not, and a new one works.
pub(crate) async fn cut(site: &Site) -> Verdict {
    let queue = site.queue().await?;
    let proxy = site.broker.proxy();
    let mut client = site.client_behind_proxy().await?;
    in_time(client.put(&queue, "before")).await?;
    let accepted = proxy.accepted();
    expect(proxy.open() > 0, "the client's connection does not go by the proxy")?;

    proxy.cut();
    let put = tokio::time::timeout(SURE, client.put(&queue, "after")).await;
    let came_back = proxy.accepted() > accepted;

    // A client that reconnects by itself is served by a new connection; any other must say that its own is gone.
    match put {
        Ok(Ok(())) => expect(came_back, "a cut connection still carries messages")?,
        Ok(Err(_)) => {}
        // A send that was under way when the connection died is never answered by this client.
        Err(_) => expect(site.kind == Kind::ActiveMq, "a cut connection is not noticed")?,
    }
    raw::round_trip(site.kind, &site.broker.proxied_url()).await?;
    Ok(())
}

/// In a black hole nothing is answered and nothing is closed; after it, what was held arrives.
pub(crate) async fn black_holed(site: &Site) -> Verdict {
    let queue = site.queue().await?;
    let proxy = site.broker.proxy();
    let mut client = site.client_behind_proxy().await?;
    in_time(client.put(&queue, "before")).await?;

    proxy.black_hole();
    let mut put = Box::pin(client.put(&queue, "held"));
    let silent = hangs(&mut put).await;
    raw::round_trip(site.kind, &site.broker.url()).await?;
    proxy.heal().await?;
    expect(silent, "an answer came out of the black hole")?;
    in_time(put).await?;

    expect_both(site, &queue, ["before", "held"]).await
}

/// Only the answers lost: the server has the message and the client cannot know.
pub(crate) async fn answers_lost(site: &Site) -> Verdict {
    let queue = site.queue().await?;
    let proxy = site.broker.proxy();
    let mut client = site.client_behind_proxy().await?;
    in_time(client.put(&queue, "before")).await?;

    proxy.set(Direction::Answers, Fault::BlackHole);
    let mut put = Box::pin(client.put(&queue, "unknown"));
    expect(hangs(&mut put).await, "an answer came through")?;

    let arrived = expect_both(site, &queue, ["before", "unknown"]).await;
    proxy.heal().await?;
    in_time(put).await?;
    arrived
}

/// Delayed, an answer takes the way there and the way back longer.
pub(crate) async fn delayed(site: &Site) -> Verdict {
    const BY: Duration = Duration::from_millis(400);
    let queue = site.queue().await?;
    let mut client = site.client_behind_proxy().await?;
    in_time(client.put(&queue, "before")).await?;

    site.broker.proxy().delay(BY);
    let began = Instant::now();
    in_time(client.put(&queue, "late")).await?;
    let took = began.elapsed();
    site.broker.proxy().heal().await?;

    expect(took >= 2 * BY, format!("an answer came after {took:?}, sooner than there and back"))?;
    Ok(())
}

/// Throttled, a message takes its size's time.
pub(crate) async fn throttled(site: &Site) -> Verdict {
    const RATE: u64 = 50_000;
    let text = "x".repeat(100_000);
    let queue = site.queue().await?;
    let mut client = site.client_behind_proxy().await?;
    in_time(client.put(&queue, "before")).await?;

    site.broker.proxy().throttle(RATE);
    let began = Instant::now();
    in_time(client.put(&queue, &text)).await?;
    let took = began.elapsed();
    site.broker.proxy().heal().await?;

    expect(took >= Duration::from_millis(1900), format!("100 kB at 50 kB/s arrived after {took:?}"))?;
    Ok(())
}

/// Refusing, the port is closed to new connections and the old ones are gone.
pub(crate) async fn refused(site: &Site) -> Verdict {
    let proxy = site.broker.proxy();
    let client = site.client_behind_proxy().await?;

    proxy.refuse().await;
    let error = tokio::net::TcpStream::connect(proxy.address()).await.err().map(|error| error.kind());
    expect(error == Some(std::io::ErrorKind::ConnectionRefused), format!("connecting was not refused: {error:?}"))?;
    until("the end of open connections", SURE, || async { expect(proxy.open() == 0, "some are open") }).await?;
    drop(client);
    proxy.heal().await?;

    raw::round_trip(site.kind, &site.broker.proxied_url()).await?;
    Ok(())
}

async fn expect_kept(site: &Site, queue: &str, text: &str) -> Verdict {
    let mut client = site.client().await?;
    if site.keeps() {
        expect(in_time(client.take(queue)).await? == text, "another message came out than went in")?;
    } else {
        expect(in_time(client.put(queue, "x")).await.is_err(), "a server that keeps nothing has kept a queue")?;
    }
    Ok(())
}

/// Both messages are there for a client that nothing stands in the way of; SQS promises no order.
async fn expect_both(site: &Site, queue: &str, texts: [&str; 2]) -> Verdict {
    let taken = async {
        let mut client = site.client().await?;
        let mut taken = vec![in_time(client.take(queue)).await?, in_time(client.take(queue)).await?];
        taken.sort_unstable();
        Result::<_>::Ok(taken)
    }
    .await?;
    expect(taken == texts, format!("{taken:?} arrived instead of {texts:?}"))?;
    Ok(())
}
