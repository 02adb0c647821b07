//! Clusters: a leader that moves, and proxies that clients do not get past.

use std::time::Duration;

use integration_tests::raw::{self, fresh_name};
use integration_tests::{Cluster, Error, Kind, until};

use crate::site::{SURE, expect, hangs, in_time};
use integration_tests::runner::Verdict;

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

/// A client that comes by the proxies stays behind them, wherever the cluster sends it: in a black hole nothing is answered,
/// and after it what was held arrives.
pub(crate) async fn behind_proxies(kind: Kind) -> Verdict {
    let cluster = Cluster::start(kind).await?;
    let proxies = || cluster.nodes().map(|node| node.proxy());
    let queue = fresh_name("proxied");
    let mut client = in_time(raw::connect(kind, &cluster.proxied_url(), None)).await?;
    in_time(client.create(&queue)).await?;
    in_time(client.put(&queue, "before")).await?;

    proxies().for_each(|proxy| proxy.black_hole());
    let mut put = Box::pin(client.put(&queue, "held"));
    let silent = hangs(&mut put).await;
    for proxy in proxies() {
        proxy.heal().await?;
    }
    expect(silent, "an answer came past the proxies")?;
    in_time(put).await?;

    let mut direct = in_time(raw::connect(kind, &cluster.url(), None)).await?;
    expect(in_time(direct.take(&queue)).await? == "before", "another message came out than went in")?;
    expect(in_time(direct.take(&queue)).await? == "held", "what the black hole held is lost")?;
    Ok(())
}
