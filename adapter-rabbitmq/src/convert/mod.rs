//! Messages and their wire form, both ways. `docs/wire-format.md` describes it, with vectors.

mod mark;
mod read;
mod values;
mod write;

use messaging_core::MessageId;

pub(crate) use self::mark::read_mark;
pub(crate) use self::read::{Incoming, Reading, read};
pub(crate) use self::write::{write, write_copy};

/// When a UUIDv7 was made, in milliseconds since 1970; none of another id.
fn time_of_id(id: &MessageId) -> Option<u64> {
    let uuid = id.as_uuid()?;
    if uuid.get_version_num() != 7 {
        return None;
    }
    let bytes = uuid.as_bytes();
    Some(bytes[..6].iter().fold(0, |millis, byte| millis << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use lapin::BasicProperties;
    use lapin::types::{AMQPValue, FieldTable, ShortString};
    use messaging_core::wire::{self, Facts};
    use messaging_core::{Message, ReplyAddress};

    use super::*;

    const READING: Reading = Reading { exchange: None, lanes: false, counts: true };

    fn back(properties: BasicProperties, redelivered: bool) -> Incoming {
        let none = ShortString::default();
        read(Bytes::from_static(b"x"), properties, &none, &none, redelivered, &READING)
    }

    fn full() -> Message {
        Message::builder("x")
            .key("k")
            .subject("a.b")
            .message_type("t")
            .content_type("text/plain")
            .correlation_id("c")
            .reply_to(ReplyAddress::new("r"))
            .priority(7)
            .ttl(Duration::from_millis(1_500))
            .header("tenant", "acmé")
            .build()
            .unwrap()
    }

    #[test]
    fn a_message_comes_back_as_it_was() {
        let sent = full();
        let Incoming { message: got, attempt, redriven, due, expires } = back(write(&sent, true), false);
        assert_eq!((attempt, redriven, due, expires), (1, 0, None, None));
        assert_eq!(got.id(), sent.id());
        assert_eq!(got.timestamp(), sent.timestamp());
        assert_eq!(got.headers(), sent.headers());
        assert_eq!((got.key(), got.subject()), (sent.key(), sent.subject()));
        assert_eq!((got.message_type(), got.content_type()), (sent.message_type(), sent.content_type()));
        assert_eq!((got.correlation_id(), got.reply_to()), (sent.correlation_id(), sent.reply_to()));
        assert_eq!((got.priority(), got.ttl()), (sent.priority(), sent.ttl()));
        assert!(got.native().is_none());
    }

    #[test]
    fn the_time_is_kept_to_the_millisecond_without_a_header_where_the_id_has_it() {
        let plain = Message::new("x");
        assert!(write(&plain, true).headers().is_none());
        let given = Message::builder("x").id("order-1").timestamp(wire::from_millis(1_234_567)).build().unwrap();
        assert_eq!(back(write(&given, true), false).message.timestamp(), given.timestamp());
    }

    #[test]
    fn attempts_add_up() {
        let facts = Facts { attempts: 2, redriven: 1, ..Facts::default() };
        let mut headers = write_copy(&full(), &facts).headers().clone().unwrap();
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
        let properties = write_copy(&full(), &facts).with_headers(headers);
        assert_eq!(back(properties.clone(), true).attempt, 6);
        // The count of a publisher's own header is not believed on the first delivery.
        assert_eq!(back(properties, false).attempt, 3);
    }

    #[test]
    fn what_is_foreign_stays_in_copies() {
        let mut headers = FieldTable::default();
        headers.insert("Count".into(), AMQPValue::LongInt(7));
        headers.insert("x-death".into(), AMQPValue::FieldArray(lapin::types::FieldArray::default()));
        let foreign = BasicProperties::default().with_headers(headers).with_app_id("legacy".into());
        let got = back(foreign, false).message;
        assert_eq!(got.headers().get("count"), Some("7"));
        let copy = write_copy(&got, &Facts::default());
        assert_eq!(copy.app_id().as_ref().map(|app| app.as_str()), Some("legacy"));
        assert_eq!(copy.headers().as_ref().unwrap().inner().get("Count"), Some(&AMQPValue::LongInt(7)));
    }
}
