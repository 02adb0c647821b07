use serde_json::json;

use super::*;
use crate::error::ErrorKind;
use crate::name::QueueName;

#[test]
fn text_is_read_as_the_type_that_belongs_there() {
    let mut settings =
        Settings::new("here", [("n", "7"), ("flag", "TRUE"), ("text", "7"), ("wait", "1500ms"), ("less", "-1")]);
    assert_eq!(settings.take_count::<u16>("n", 1..=9), Some(7));
    assert_eq!(settings.take_flag("flag"), Some(true));
    assert_eq!(settings.take_text("text").as_deref(), Some("7"));
    assert_eq!(settings.take_duration("wait"), Some(std::time::Duration::from_millis(1500)));
    assert_eq!(settings.take_whole("less"), Some(-1));
    assert_eq!(settings.take_count::<u16>("absent", 1..=9), None);
    assert_eq!(settings.known().collect::<Vec<_>>(), ["n", "flag", "text", "wait", "less", "absent"]);
    settings.finish().unwrap();
}

#[test]
fn all_faults_of_a_table_are_reported_at_once() {
    let mut settings =
        Settings::new("[x] in app.toml", [("n", "0"), ("mode", "fats"), ("wait", "soon"), ("colour", "red")]);
    settings.take_count::<u16>("n", 1..=9);
    settings.take_word("mode", &[("fast", 1), ("slow", 2)]);
    settings.take_at_least("wait", std::time::Duration::ZERO);
    let error = settings.finish().unwrap_err();
    let hidden = "(the value is not shown: it may be a secret)";
    let faults = [
        "4 faults:".to_owned(),
        "  1. \"n\" in [x] in app.toml has to be at least 1".to_owned(),
        format!("  2. \"mode\" in [x] in app.toml is none of fast, slow; did you mean \"fast\"? {hidden}"),
        format!("  3. \"wait\" in [x] in app.toml is not a valid length of time such as \"500ms\" {hidden}"),
        "  4. unknown key \"colour\" in [x] in app.toml; known here: n, mode, wait".to_owned(),
    ];
    assert_eq!((error.kind(), error.text()), (ErrorKind::Config, faults.join("\n").as_str()));
}

/// Each way of taking, with a value that it refuses.
fn take_all(value: &Value) -> Settings {
    let keys = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n"];
    let mut settings = Settings::new("here", keys.map(|key| (key, value.clone())));
    settings.take_text("a");
    settings.take_secret("b");
    settings.take_word("c", &[("one", 1)]);
    settings.take_words("d", &[("one", 1)]);
    settings.take_whole("e");
    settings.take_count::<u8>("f", 0..=9);
    settings.take_factor("g", 1e300);
    settings.take_flag("h");
    settings.take_duration("i");
    settings.take_at_least("j", std::time::Duration::MAX);
    settings.take_table("k").map(Settings::close);
    settings.take_named("l");
    settings.take_values("m");
    settings.take_name("n", "queue name", |text| QueueName::parse(text));
    settings
}

#[test]
fn no_error_shows_a_value_of_a_drivers_option() {
    for value in [json!(48_151_623), json!(48_151_623.5), json!("48151623"), json!("Pass48151623"), json!([48_151_623])]
    {
        let settings = take_all(&value);
        let copied = settings.clone();
        assert!(!format!("{settings:?}").contains("48151623"));
        for error in [settings.finish().unwrap_err(), copied.finish().unwrap_err()] {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("48151623") && shown.contains("faults"), "{shown}");
        }
    }
    // The same through a key that nobody takes, and through options inside a table.
    let error = Settings::new("here", [("pasword", 48_151_623)]).finish().unwrap_err();
    assert_eq!(error.text(), "unknown key \"pasword\" in here; none are known here");
    let entries = BTreeMap::from([("mode".to_owned(), Setting::shown("48151623"))]);
    let options = BTreeMap::from([("options".to_owned(), Setting::table("[options]", "in app.toml", entries))]);
    let mut root = Settings::root("in app.toml", options, Faults::default());
    let mut options = root.take_options("options");
    options.take_word("mode", &[("fast", 1)]);
    assert!(!options.finish().unwrap_err().text().contains("48151623"));
    root.finish().unwrap();
}

#[test]
fn a_number_where_text_belongs_is_named_by_its_kind() {
    let mut settings = Settings::new("[brokers.main.options] in app.yaml", [("password", 48_151_623)]);
    assert!(settings.take_secret("password").is_none());
    assert_eq!(
        settings.finish().unwrap_err().text(),
        "\"password\" in [brokers.main.options] in app.yaml has to be text in quotes, not a number"
    );
}

#[test]
fn keys_that_belong_elsewhere_are_answered_with_where() {
    let error = Settings::new("the parameters of amqp://a", [("topology", "verify")]).finish().unwrap_err();
    assert_eq!(
        error.text(),
        "\"topology\" in the parameters of amqp://a is no option of the driver: write it as [brokers.NAME] topology = …"
    );
}

#[test]
fn faults_of_inner_tables_stand_in_the_order_of_the_reading() {
    let inner = BTreeMap::from([("n".to_owned(), Setting::shown("x")), ("zebra".to_owned(), Setting::shown(1))]);
    let entries = BTreeMap::from([
        ("name".to_owned(), Setting::shown("A").from_origin("from the environment")),
        ("inner".to_owned(), Setting::table("[inner]", "in app.toml", inner)),
        ("read".to_owned(), Setting::faulty()),
    ]);
    let mut root = Settings::root("in app.toml", entries, Faults::default());
    root.take_name("name", "queue name", |text| QueueName::parse(text));
    assert_eq!(root.take_text("read"), None);
    let mut table = root.take_table("inner").unwrap();
    table.take_count::<u8>("n", 0..=9);
    table.close();
    root.invalid("name", "is odd");
    let error = root.finish().unwrap_err();
    let faults: Vec<&str> = error.text().lines().skip(1).collect();
    assert!(faults[0].starts_with("  1. \"name\" from the environment: queue name \"A\" is not valid"), "{error}");
    assert_eq!(faults[1], "  2. \"n\" in [inner] in app.toml has to be a whole number, not text");
    assert_eq!(faults[2], "  3. unknown key \"zebra\" in [inner] in app.toml; known here: n");
    assert_eq!(faults[3], "  4. \"name\" from the environment is odd");
    assert_eq!(faults.len(), 4);
}

#[test]
fn values_are_taken_as_they_stand() {
    let mut settings = Settings::new("here", [("arguments", json!({"x-max": 5, "nested": {"a": ["b"]}}))]);
    let values = settings.take_values("arguments").unwrap();
    assert_eq!(values["x-max"], json!(5));
    assert_eq!(values["nested"], json!({"a": ["b"]}));
    settings.finish().unwrap();
}
