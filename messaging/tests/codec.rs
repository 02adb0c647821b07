//! Payloads to values and back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fmt::Debug;

use messaging::codec::{Codec, CodecError, JsonCodec};
use messaging::{Codecs, Error, ErrorKind, Json, Message, Named};
use serde::de::{DeserializeOwned, DeserializeSeed};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Order {
    id: u32,
    lines: Vec<Line>,
    #[serde(default)]
    note: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    article: String,
    price: f64,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Kind {
    Plain,
    Gift { from: String },
}

impl Named for Order {
    const TYPE: &'static str = "order.placed";
}

fn order() -> Order {
    let gift = Kind::Gift { from: "Zoë".to_owned() };
    let lines = [("pen", 1.5, Kind::Plain), ("ink", 0.1, gift)];
    let lines = lines.map(|(article, price, kind)| Line { article: article.to_owned(), price, kind });
    Order { id: 7, lines: lines.to_vec(), note: None }
}

fn message(content_type: Option<&str>, payload: impl Into<bytes::Bytes>) -> Message {
    let builder = Message::builder(payload).id("m-1");
    match content_type {
        Some(content_type) => builder.content_type(content_type),
        None => builder,
    }
    .build()
    .unwrap()
}

fn undecodable<T: DeserializeOwned + Debug>(content_type: Option<&str>, payload: &'static [u8]) -> Error {
    let error = Codecs::default().decode::<T>(&message(content_type, payload)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Codec);
    assert!(!error.is_retryable());
    assert!(!error.chain().join(" ").contains("s3cret"), "{error}");
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    error
}

#[test]
fn json_is_the_default_also_with_suffix_parameters_and_other_case() {
    let text = serde_json::to_vec(&order()).unwrap();
    for content_type in [
        None,
        Some("application/json"),
        Some("Application/JSON"),
        Some("application/json; charset=utf-8"),
        Some("application/vnd.acme.order+json"),
        Some("application/cloudevents+JSON;x=y"),
    ] {
        let decoded: Order = Codecs::default().decode(&message(content_type, text.clone())).unwrap();
        assert_eq!(decoded, order(), "{content_type:?}");
    }
    assert_eq!(Json::<Order>::decode(&message(Some("text/plain"), text)).unwrap().0, order());
}

#[test]
fn json_carries_its_content_type_and_the_name_of_the_type() {
    let message = Json(&order()).into_named_message().unwrap().key("customer-1").build().unwrap();
    assert_eq!(message.content_type(), Some("application/json"));
    assert_eq!(message.message_type(), Some("order.placed"));
    assert_eq!(message.key(), Some("customer-1"));
    assert_eq!(Json::<Order>::decode(&message).unwrap().0, order());
    assert_eq!(Json(1).into_message().unwrap().build().unwrap().message_type(), None);
}

#[test]
fn a_type_may_evolve() {
    let newer = message(None, r#"{"id":7,"lines":[],"added":{"later":true}}"#);
    assert_eq!(Json::<Order>::decode(&newer).unwrap().0, Order { id: 7, lines: vec![], note: None });
}

#[test]
fn an_undecodable_payload_is_told_by_place_and_never_shown() {
    for (payload, text) in [
        (&b"{\"id\":\"s3cret\",\"lines\":[]}"[..], "invalid type: string, expected u32 at id, line 1, column 14"),
        (
            b"{\"id\":7,\"lines\":[{\"article\":\"s3cret\",\"price\":[],\"kind\":\"Plain\"}]}",
            "invalid type: sequence, expected f64 at lines[0].price, line 1, column 45",
        ),
        (
            b"{\"id\":7,\"lines\":[{\"article\":\"s3cret\",\"price\":1,\"kind\":\"s3cret\"}]}",
            "unknown variant, expected `Plain` or `Gift` at lines[0].kind, line 1, column 62",
        ),
        (b"{\"id\":7,\"note\":\"s3cret\"}", "missing field `lines`, line 1, column 24"),
        (b"{\"id\":7,\"note\":\"s3cret\",", "EOF while parsing a value, line 1, column 24"),
        (b"s3cret", "expected value, line 1, column 1"),
        (b"", "EOF while parsing a value, line 1, column 0"),
        (b"{\"id\":7,\"lines\":[]} s3cret", "trailing characters, line 1, column 21"),
        (b"{\"id\":-1,\"lines\":[]}", "invalid value: integer, expected u32 at id, line 1, column 8"),
        (b"\xff\xfe", "expected value, line 1, column 1"),
    ] {
        let error = undecodable::<Order>(Some("application/json"), payload);
        let expected = format!("the payload cannot be decoded as JSON: {text}");
        assert_eq!(error.text(), expected);
        let context: Vec<_> = error.context().collect();
        assert_eq!(context, [("message", "m-1"), ("content type", "\"application/json\"")]);
    }
}

#[test]
fn what_a_type_says_of_a_value_it_refuses_is_not_repeated() {
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "String")]
    struct Strict;
    impl TryFrom<String> for Strict {
        type Error = String;
        fn try_from(text: String) -> Result<Self, String> {
            Err(format!("{text} is not acceptable"))
        }
    }
    let error = undecodable::<HashMap<String, Strict>>(None, b"{\"a\":\"s3cret\"}");
    assert!(error.text().contains("refused by its type at a, line 1, column"), "{error}");
    assert_eq!(error.context().count(), 1);
}

#[test]
fn a_value_that_json_cannot_express_is_refused() {
    let map = HashMap::from([(vec![1_u8], 1)]);
    let error = Json(&map).into_message().unwrap_err();
    assert_eq!(
        (error.kind(), error.text()),
        (ErrorKind::Codec, "the value cannot be encoded as JSON: key must be a string")
    );
}

#[test]
fn an_unknown_content_type_names_the_nearest_known() {
    let error = undecodable::<Order>(Some("aplication/json"), b"{}");
    assert_eq!(error.text(), "no codec reads the content type \"aplication/json\"; did you mean \"application/json\"?");
    assert_eq!(error.context().collect::<Vec<_>>(), [("message", "m-1")]);
    let error = undecodable::<Order>(Some("image/png"), b"{}");
    assert!(error.text().contains("known here: application/"), "{error}");
    assert!(Codecs::default().encode("image/png", &1).is_err());
    for odd in ["", ";", "+json", "é", "+éson"] {
        let _ = Codecs::default().decode::<Order>(&message(Some(odd), "{}"));
    }
}

#[cfg(not(feature = "msgpack"))]
#[test]
fn without_its_feature_msgpack_says_which_to_enable() {
    let error = undecodable::<Order>(Some("application/msgpack"), b"x");
    assert!(error.text().contains("enable the feature \"msgpack\""), "{error}");
}

#[cfg(not(feature = "cbor"))]
#[test]
fn without_its_feature_cbor_says_which_to_enable() {
    let error = undecodable::<Order>(Some("application/cbor; x=y"), b"x");
    assert!(error.text().contains("enable the feature \"cbor\""), "{error}");
}

#[cfg(any(feature = "msgpack", feature = "cbor"))]
fn round_trips(content_type: &str) -> Message {
    let codecs = Codecs::default();
    assert!(codecs.content_types().contains(&content_type));
    let message = codecs.encode(content_type, &order()).unwrap().build().unwrap();
    assert_eq!(message.content_type(), Some(content_type));
    assert_eq!(codecs.decode::<Order>(&message).unwrap(), order());
    // Fields travel by their names, so that a type may evolve.
    #[derive(Debug, PartialEq, Deserialize)]
    struct Older {
        id: u64,
    }
    assert_eq!(codecs.decode::<Older>(&message).unwrap(), Older { id: 7 });
    for cut in 0..message.payload().len() {
        let part = message.to_builder().payload(message.payload().slice(..cut)).build().unwrap();
        assert_eq!(codecs.decode::<Order>(&part).unwrap_err().kind(), ErrorKind::Codec, "{cut}");
    }
    let mut longer = message.payload().to_vec();
    longer.push(0);
    let longer = message.to_builder().payload(longer).build().unwrap();
    let error = codecs.decode::<Order>(&longer).unwrap_err();
    assert!(error.text().contains("bytes are left after the value"), "{error}");
    let error = codecs.decode::<HashMap<String, u8>>(&message).unwrap_err();
    assert!(error.text().contains(" at lines") || error.text().contains(" at note"), "{error}");
    // Whatever bytes come, there is a value or an error.
    for seed in 0..2_000_u32 {
        let bytes: Vec<u8> = (0..16).map(|index| (seed.wrapping_mul(2_654_435_761) >> (index % 24)) as u8).collect();
        let garbage = message.to_builder().payload(bytes).build().unwrap();
        let _ = codecs.decode::<serde_json::Value>(&garbage);
        let _ = codecs.decode::<Order>(&garbage);
    }
    message
}

#[cfg(feature = "msgpack")]
#[test]
fn msgpack_under_each_of_its_names() {
    for content_type in ["application/msgpack", "application/vnd.msgpack", "application/x-msgpack"] {
        round_trips(content_type);
    }
    let error = undecodable::<Order>(Some("application/msgpack"), b"\x81\xa2id\xa6s3cret");
    assert!(error.text().ends_with(" at id"), "{error}");
}

#[cfg(feature = "cbor")]
#[test]
fn cbor() {
    round_trips("application/cbor");
    let error = undecodable::<Order>(Some("application/cbor"), b"\xa1\x62id\x66s3cret");
    assert!(error.text().contains("as application/cbor: ") && error.text().contains(" at id"), "{error}");
    // {"id": 7, "lines": []} as RFC 8949 writes it, made by hand, also with an indefinite array.
    for payload in [&b"\xa2\x62id\x07\x65lines\x80"[..], b"\xbf\x62id\x07\x65lines\x9f\xff\xff"] {
        let decoded: Order = Codecs::default().decode(&message(Some("application/cbor"), payload)).unwrap();
        assert_eq!(decoded, Order { id: 7, lines: vec![], note: None });
    }
}

/// JSON with each byte inverted.
struct Inverted(&'static [&'static str]);

impl Codec for Inverted {
    fn content_types(&self) -> &[&str] {
        self.0
    }

    fn decode<'de, S: DeserializeSeed<'de>>(&self, payload: &'de [u8], seed: S) -> Result<S::Value, CodecError> {
        let plain: Vec<u8> = payload.iter().map(|byte| !byte).collect();
        Ok(seed.deserialize(&mut serde_json::Deserializer::from_reader(plain.as_slice()))?)
    }

    fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Vec<u8>, CodecError> {
        Ok(JsonCodec.encode(value)?.into_iter().map(|byte| !byte).collect())
    }
}

#[test]
fn a_codec_of_ones_own() {
    let codecs = Codecs::default().with(Inverted(&["application/x-inverted"]));
    assert!(codecs.content_types().contains(&"application/x-inverted"));
    let message = codecs.encode("application/x-inverted", &order()).unwrap().build().unwrap();
    assert_ne!(message.payload()[0], b'{');
    assert_eq!(codecs.decode::<Order>(&message).unwrap(), order());
    let error = codecs.decode::<Vec<u8>>(&message).unwrap_err();
    assert!(
        error.text().starts_with("the payload cannot be decoded as application/x-inverted: invalid type: map"),
        "{error}"
    );
    assert!(format!("{codecs:?}").contains("x-inverted"));
}

#[test]
fn a_codec_of_ones_own_can_take_the_place_of_json() {
    let codecs = Codecs::default().with(Inverted(&["application/json"]));
    let message = codecs.encode("application/json", &1).unwrap().build().unwrap();
    assert_eq!(message.payload()[0], !b'1');
    assert_eq!(codecs.decode::<u8>(&message).unwrap(), 1);
    // A missing content type means JSON, whoever reads that.
    let bare = Message::new(message.payload().clone());
    assert_eq!(codecs.decode::<u8>(&bare).unwrap(), 1);
    // The later of two wins.
    let codecs = codecs.with(JsonCodec);
    assert_eq!(codecs.decode::<u8>(&Message::new("1")).unwrap(), 1);
}

#[test]
fn a_codec_that_reads_nothing_is_found_out() {
    struct Idle;
    impl Codec for Idle {
        fn content_types(&self) -> &[&str] {
            &["application/x-idle"]
        }
        fn decode<'de, S: DeserializeSeed<'de>>(&self, _: &'de [u8], _: S) -> Result<S::Value, CodecError> {
            Err("s3cret".into())
        }
        fn encode<T: Serialize + ?Sized>(&self, _: &T) -> Result<Vec<u8>, CodecError> {
            Err("s3cret".into())
        }
    }
    let codecs = Codecs::default().with(Idle);
    let error = codecs.decode::<u8>(&message(Some("application/x-idle"), "1")).unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
    let error = codecs.encode("application/x-idle", &1).unwrap_err();
    assert!(!error.to_string().contains("s3cret"), "{error}");
}

#[test]
fn values_that_encode_others_while_they_are_written() {
    struct Outer;
    impl Serialize for Outer {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let inner = Json("inner").into_message().unwrap().build().unwrap();
            serializer.serialize_str(std::str::from_utf8(inner.payload()).unwrap())
        }
    }
    for _ in 0..2 {
        let message = Json(vec![Outer, Outer]).into_message().unwrap().build().unwrap();
        assert_eq!(message.payload(), r#"["\"inner\"","\"inner\""]"#);
    }
    // A failure leaves nothing behind for the next, nor does a large one.
    assert!(Json(HashMap::from([(vec![1_u8], 1)])).into_message().is_err());
    let large = "x".repeat(1 << 20);
    assert_eq!(Json(&large).into_message().unwrap().build().unwrap().payload().len(), large.len() + 2);
    assert_eq!(Json(1).into_message().unwrap().build().unwrap().payload(), "1");
}
