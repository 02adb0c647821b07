//! Clusters: a leader that moves.

use std::time::Duration;

use integration_tests::{
    Cluster, Error, Kind,
    raw::{self, fresh_name},
    until,
};

use crate::{
    Verdict,
    site::{SURE, expect, in_time},
};

const MOVE: Duration = Duration::from_secs(45);

/// The leader killed, another leads, has what was confirmed, and takes more; the killed node comes back.
pub(crate) async fn leader_moved(kind: Kind) -> Verdict {
    let cluster = Cluster::start(kind).await?;
    let queue = fresh_name("led");
    let mut client = in_time(raw::connect(kind, &cluster.url(), None)).await?;
    in_time(client.create(&queue)).await?;
    if kind == Kind::RabbitMq {
        // A queue younger than this may die with the node: the broker's own weakness, and no condition tells its age.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    in_time(client.put(&queue, "before")).await?;
    let first = until("a first leader", SURE, || cluster.leader(&queue)).await?;

    cluster.node(first).kill().await?;
    let second = until("another leader", MOVE, || async {
        let leader = cluster.leader(&queue).await?;
        if leader == first { Err(Error::failed("the dead one leads")) } else { Ok(leader) }
    })
    .await?;

    expect(second != first, "nobody else leads")?;
    let url = cluster.url();
    let mut client = until("a client of the new leader", MOVE, || raw::connect(kind, &url, None)).await?;
    in_time(client.put(&queue, "after")).await?;
    expect(in_time(client.take(&queue)).await? == "before", "what was confirmed is lost with its leader")?;
    expect(in_time(client.take(&queue)).await? == "after", "the new leader takes nothing")?;
    cluster.node(first).start().await?;
    Ok(())
}
