//! Payloads by their content type, and extractors of one's own.

use messaging::extract::{DeliveryContext, Needs, Rejection};
use messaging::{
    App, Codec, Feature, FromDelivery, Headers, Listen, Message, Payload, State,
    codec::{CodecError, JsonCodec},
};
use serde::de::DeserializeSeed;
use serde::{Deserialize, Serialize};

use super::support::{Seen, dead_letters, queue, until_tally};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u32,
}

/// JSON with each byte inverted.
struct Inverted;

impl Codec for Inverted {
    fn content_types(&self) -> &[&str] {
        &["application/x-inverted"]
    }

    fn decode<'de, S: DeserializeSeed<'de>>(&self, payload: &'de [u8], seed: S) -> Result<S::Value, CodecError> {
        let plain: Vec<u8> = payload.iter().map(|byte| !byte).collect();
        Ok(seed.deserialize(&mut serde_json::Deserializer::from_reader(plain.as_slice()))?)
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        Ok(JsonCodec.encode(value)?.into_iter().map(|byte| !byte).collect())
    }
}

#[tokio::test(start_paused = true)]
async fn the_content_type_chooses_the_codec() {
    async fn handle(Payload(order): Payload<Order>, State(seen): State<Seen<u32>>) {
        seen.add(order.id);
    }
    let seen = Seen::<u32>::new();
    let mut app = App::new().codec(Inverted).state(seen.clone()).listen(Listen::queue("q"), handle);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    let inverted = Inverted.encode(&Order { id: 2 }).unwrap();
    publisher.publish(r#"{"id":1}"#).await.unwrap();
    for content_type in ["application/x-inverted", "application/x-inverse"] {
        let message = Message::builder(inverted.clone()).content_type(content_type).build().unwrap();
        publisher.publish(message).await.unwrap();
    }
    let counts = until_tally(&running, "q", |tally| tally.acked == 2 && tally.dead_lettered == 1).await;
    assert_eq!((seen.all(), counts.undecodable), (vec![1, 2], 1));
    let why = dead_letters(&running, &queue("q")).await.remove(0).reason.errors.join("; ");
    assert!(why.contains("application/x-inverse") && why.contains("did you mean"), "{why}");
}

/// The sum of two states, only where the broker has priorities.
struct Sum(u32);

impl FromDelivery for Sum {
    fn from_delivery(delivery: &mut DeliveryContext<'_>) -> Result<Self, Rejection> {
        match (delivery.state::<u32>(), delivery.message().priority()) {
            (_, Some(9)) => Err(Rejection::failed("not now")),
            (Some(state), _) => Ok(Self(*state)),
            (None, _) => Err(Rejection::undecodable("nothing to add")),
        }
    }

    fn needs(needs: &mut Needs) {
        needs.state::<u32>();
        needs.broker(Feature::Priority);
    }
}

#[tokio::test(start_paused = true)]
async fn an_extractor_of_ones_own_has_its_needs_checked_and_may_ask_for_another_attempt() {
    async fn handle(Sum(sum): Sum, _: Headers, absent: Option<messaging::Json<Order>>, State(seen): State<Seen<u32>>) {
        assert!(absent.is_none());
        seen.add(sum);
    }
    let seen = Seen::<u32>::new();
    let app = App::new().state(seen.clone()).listen(Listen::queue("q"), handle);
    let error = app.start().await.unwrap_err();
    assert!(error.to_string().contains("State<u32>"), "{error}");

    let mut app = App::new().state(seen.clone()).state(7_u32).listen(Listen::queue("q"), handle);
    let publisher = app.publisher("q");
    let running = app.start().await.unwrap();
    publisher.publish("x").await.unwrap();
    publisher.publish(Message::builder("y").priority(9).build().unwrap()).await.unwrap();
    let counts = until_tally(&running, "q", |tally| tally.dead_lettered == 1).await;
    assert_eq!((seen.all(), counts.retried, counts.undecodable), (vec![7], 4, 0));
}
