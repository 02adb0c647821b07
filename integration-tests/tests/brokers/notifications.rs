//! SNS, which is no broker of its own here: it is behind the same door as SQS, and delivers to its queues.

use aws_sdk_sns::config::{BehaviorVersion, Credentials, Region};

use crate::site::{Site, expect, in_time};
use integration_tests::runner::Verdict;

/// What is published to a topic arrives in each queue that is subscribed, as it was sent.
pub(crate) async fn topic_reaches_queues(site: &Site) -> Verdict {
    let config = aws_sdk_sns::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new("test", "test", None, None, "tests"))
        .endpoint_url(site.broker.url())
        .build();
    let sns = aws_sdk_sns::Client::from_conf(config);
    let queues = [site.queue().await?, site.queue().await?];
    let topic = sns.create_topic().name(integration_tests::raw::fresh_name("topic")).send().await?;
    let topic = topic.topic_arn().ok_or("a topic without a name")?.to_owned();
    for queue in &queues {
        // The account and region that an emulator has for everybody.
        let arn = format!("arn:aws:sqs:us-east-1:000000000000:{queue}");
        let subscribe = sns.subscribe().topic_arn(&topic).protocol("sqs").endpoint(arn);
        subscribe.attributes("RawMessageDelivery", "true").send().await?;
    }

    sns.publish().topic_arn(&topic).message("to all").send().await?;

    let mut client = site.client().await?;
    for queue in &queues {
        expect(in_time(client.take(queue)).await? == "to all", "another message came out than was published")?;
    }
    sns.delete_topic().topic_arn(topic).send().await?;
    Ok(())
}
