//! What administrators do, by the server's own command line and management interface.

use integration_tests::{Door, Error, Kind, close_connections, until};

use crate::site::{SURE, Site, expect, hangs, in_time};
use integration_tests::runner::Verdict;

/// The command line reaches this server and no other: RabbitMQ's alarm stops publishers, Kafka's list has the topic.
pub(crate) async fn command_line(site: &Site) -> Verdict {
    let queue = site.queue().await?;
    if site.kind == Kind::Kafka {
        let listed = site.broker.administer(&["org.apache.kafka.tools.TopicCommand", "--list"]).await?;
        expect(listed.lines().any(|topic| topic == queue), format!("{queue} is not in the list {listed:?}"))?;
        return Ok(());
    }
    let mut client = site.client().await?;
    in_time(client.put(&queue, "before")).await?;

    site.broker.administer(&["set_vm_memory_high_watermark", "0.00001"]).await?;
    let mut put = Box::pin(client.put(&queue, "held"));
    let silent = hangs(&mut put).await;
    site.broker.administer(&["set_vm_memory_high_watermark", "0.6"]).await?;

    expect(silent, "a server without memory confirmed a message")?;
    in_time(put).await?;
    Ok(())
}

/// Every connection is closed once the management interface knows of it.
pub(crate) async fn connections_closed(site: &Site) -> Verdict {
    let queue = site.queue().await?;
    let mut client = site.client().await?;
    in_time(client.put(&queue, "before")).await?;

    let management = site.broker.address(Door::Management)?;
    until("a known connection", SURE, || async {
        if close_connections(management).await? == 0 { Err(Error::failed("it knows of none")) } else { Ok(()) }
    })
    .await?;

    expect(in_time(client.put(&queue, "after")).await.is_err(), "a closed connection still carries messages")?;
    Ok(())
}
