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
    use lapin::types::{AMQPValue, DecimalValue, FieldTable, ShortString};
    use messaging_core::wire::{self, DeadLetterMark, Facts};
    use messaging_core::{DeadLetterReason, ErrorKind, Message, QueueName, ReplyAddress, Source};

    use super::*;

    const READING: Reading = Reading { exchange: None, lanes: false, counts: true };

    fn back(properties: BasicProperties, redelivered: bool) -> Incoming {
        let none = ShortString::default();
        read(Bytes::from_static(b"x"), properties, &none, &none, redelivered, &READING)
    }

    const FRAME_MAX: usize = 131_072;

    fn copy_of(message: &Message, facts: &Facts) -> BasicProperties {
        write_copy(message, facts, FRAME_MAX).unwrap()
    }

    fn table<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
        let mut table = FieldTable::default();
        entries.into_iter().for_each(|(name, value)| {
            table.insert(name.into(), value);
        });
        table
    }

    fn text(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    fn list<const N: usize>(values: [AMQPValue; N]) -> AMQPValue {
        AMQPValue::FieldArray(Vec::from(values).into())
    }

    fn dead() -> Facts {
        let code = DeadLetterReason::ATTEMPTS_EXHAUSTED;
        Facts::from(DeadLetterMark {
            origin: Source::Queue(QueueName::parse("orders").unwrap()),
            reason: DeadLetterReason::new(code).with_errors(vec!["no such customer".repeat(200)]),
            attempts: 3,
            redriven: 0,
            at: wire::from_millis(1_000),
        })
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
        let Incoming { message: got, attempt, redriven, due, expires } = back(write(&sent, true).unwrap(), false);
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
        assert!(write(&plain, true).unwrap().headers().is_none());
        let given = Message::builder("x").id("order-1").timestamp(wire::from_millis(1_234_567)).build().unwrap();
        assert_eq!(back(write(&given, true).unwrap(), false).message.timestamp(), given.timestamp());
    }

    #[test]
    fn attempts_add_up() {
        let facts = Facts { attempts: 2, redriven: 1, ..Facts::default() };
        let mut headers = copy_of(&full(), &facts).headers().clone().unwrap();
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(3));
        let properties = copy_of(&full(), &facts).with_headers(headers);
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
        let copy = copy_of(&got, &Facts::default());
        assert_eq!(copy.app_id().as_ref().map(|app| app.as_str()), Some("legacy"));
        assert_eq!(copy.headers().as_ref().unwrap().inner().get("Count"), Some(&AMQPValue::LongInt(7)));
    }

    #[test]
    fn copies_carry_headers_under_the_names_they_came_with() {
        let came = table([("Tenant", text("one")), ("tenant", text("two")), ("__TypeId__", text("com.acme.Order"))]);
        let foreign = BasicProperties::default().with_headers(came.clone()).with_message_id("m-1".into());
        let got = back(foreign, false).message;
        assert_eq!(
            (got.headers().get("tenant"), got.headers().get("__typeid__")),
            (Some("two"), Some("com.acme.Order"))
        );
        assert_eq!(copy_of(&got, &Facts::default()).headers().as_ref(), Some(&came));
    }

    #[test]
    fn copies_keep_each_property_but_those_that_route_expire_or_refuse_them() {
        let came =
            table([("CC", list([text("other")])), ("BCC", list([text("more")])), ("n", AMQPValue::ShortShortInt(-5))]);
        let foreign = BasicProperties::default()
            .with_headers(came)
            .with_content_encoding("gzip".into())
            .with_app_id("legacy".into())
            .with_user_id("someone".into())
            .with_timestamp(1_700_000_000_123)
            .with_expiration("60000".into())
            .with_priority(200)
            .with_message_id("0198F3D2-7B5C-7C44-8E55-3F0B6A1C9D22".into());
        let got = back(foreign.clone(), false).message;
        let copy = copy_of(&got, &Facts::default());
        let kept = table([("n", AMQPValue::ShortShortInt(-5)), (wire::TTL, text("60000"))]);
        assert_eq!(copy.headers().as_ref(), Some(&kept));
        assert_eq!((copy.expiration(), copy.user_id()), (&None, &None));
        assert_eq!((copy.timestamp(), copy.priority()), (foreign.timestamp(), foreign.priority()));
        assert_eq!((copy.message_id(), copy.content_encoding()), (foreign.message_id(), foreign.content_encoding()));
        // The next copy is the same.
        assert_eq!(copy_of(&back(copy.clone(), true).message, &Facts::default()), copy);
    }

    #[test]
    fn a_message_without_id_and_time_keeps_the_id_that_was_shown_first() {
        let got = back(BasicProperties::default().with_headers(table([("n", text("1"))])), false).message;
        let copy = copy_of(&got, &Facts::default());
        assert_eq!(copy.timestamp(), &None);
        assert_eq!(back(copy, false).message.id(), got.id());
    }

    #[test]
    fn nested_header_values_are_shown_as_json() {
        let values = [
            ("list", list([text("a"), AMQPValue::LongInt(1)]), r#"["a",1]"#),
            (
                "table",
                AMQPValue::FieldTable(table([("b", list([AMQPValue::Void, AMQPValue::Boolean(true)]))])),
                r#"{"b":[null,true]}"#,
            ),
            ("decimal", AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 314 }), "3.14"),
            ("small", AMQPValue::DecimalValue(DecimalValue { scale: 3, value: (-5_i32).cast_unsigned() }), "-0.005"),
            ("byte", AMQPValue::ShortShortInt(-5), "-5"),
            ("octet", AMQPValue::ShortShortUInt(200), "200"),
            ("time", AMQPValue::Timestamp(7), "7"),
        ];
        let mut headers = FieldTable::default();
        for (name, value, _) in &values {
            headers.insert((*name).into(), value.clone());
        }
        let got = back(BasicProperties::default().with_headers(headers), false).message;
        for (name, _, shown) in values {
            assert_eq!(got.headers().get(name), Some(shown), "{name}");
        }
    }

    #[test]
    fn a_dead_letter_that_fits_no_frame_loses_its_errors_first_and_then_its_headers_and_says_so() {
        let foreign = |bytes| {
            let headers = table([("stack", text(&"x".repeat(bytes)))]);
            back(BasicProperties::default().with_headers(headers).with_message_id("m".into()), false).message
        };
        let errors = |copy: BasicProperties| {
            let mark = read_mark(&copy, &Source::Queue(QueueName::parse("orders").unwrap()), 1);
            assert_eq!(mark.attempts, 3);
            mark.reason.errors[0].clone()
        };
        assert!(errors(copy_of(&foreign(100_000), &dead())).starts_with("no such customer"));

        let without_errors = copy_of(&foreign(126_000), &dead());
        assert!(without_errors.headers().as_ref().unwrap().contains_key("stack"));
        assert!(errors(without_errors).contains("errors were left out"));

        let without_headers = copy_of(&foreign(130_800), &dead());
        assert!(!without_headers.headers().as_ref().unwrap().contains_key("stack"));
        assert!(errors(without_headers).contains("were left out: a frame of 131072 bytes"));

        let retry = write_copy(&foreign(130_800), &Facts { attempts: 1, ..Facts::default() }, FRAME_MAX);
        assert_eq!(retry.unwrap_err().kind(), ErrorKind::TooLarge);
    }

    #[test]
    fn a_property_that_amqp_has_no_room_for_is_refused_and_not_cut() {
        let long = Message::received(MessageId::from_text(&"i".repeat(256)), 0).finish("x");
        assert_eq!(write(&long, true).unwrap_err().kind(), ErrorKind::InvalidMessage);
    }
}
