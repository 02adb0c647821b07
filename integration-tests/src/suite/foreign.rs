//! A message as it is at the broker, for somebody who knows no adapter.

use messaging_conformance::RawMessage;

/// A message as the broker's own client sends or sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// The body or value; none is a Kafka tombstone, and empty elsewhere.
    pub payload: Option<Vec<u8>>,
    /// Kafka's key.
    pub key: Option<Vec<u8>>,
    /// Header names and values, in the broker's order. Of RabbitMQ's typed values text is its bytes, and the others are written as
    /// text.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Properties besides headers, by AMQP's names: `message_id`, `type`, `content_type`, `correlation_id`, `reply_to`,
    /// `expiration`.
    pub properties: Vec<(&'static str, String)>,
}

impl Foreign {
    /// A property's value.
    #[must_use]
    pub fn property(&self, name: &str) -> Option<&str> {
        self.properties.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// A header's value as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(known, _)| known == name)?;
        Some(String::from_utf8_lossy(value).into_owned())
    }

    /// Reads it with headers as headers, and the id from the property `message_id` or the header `ce_id`.
    #[must_use]
    pub fn plain(self) -> RawMessage {
        let id = self.property("message_id").map(str::to_owned).or_else(|| self.header("ce_id"));
        let text = |(name, value): (String, Vec<u8>)| (name, String::from_utf8_lossy(&value).into_owned());
        RawMessage {
            id,
            headers: self.headers.into_iter().map(text).collect(),
            payload: self.payload.unwrap_or_default(),
        }
    }
}
