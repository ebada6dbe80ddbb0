//! What holds for any value and any bytes.
#![allow(clippy::unwrap_used, reason = "tests")]

use ovsdb::json::Splitter;
use ovsdb::message::Message;
use ovsdb::{Atom, AtomicType, Datum, Schema, Type, journal};
use proptest::prelude::*;
use serde_json::{Value, json};
use uuid::Uuid;

fn atomic_type() -> impl Strategy<Value = AtomicType> {
    prop_oneof![
        Just(AtomicType::Integer),
        Just(AtomicType::Real),
        Just(AtomicType::Boolean),
        Just(AtomicType::String),
        Just(AtomicType::Uuid)
    ]
}

fn atom(ty: AtomicType) -> BoxedStrategy<Atom> {
    match ty {
        AtomicType::Integer => any::<i64>().prop_map(Atom::from).boxed(),
        AtomicType::Real => any::<f64>()
            .prop_filter("finite", |x| x.is_finite() && (*x != 0.0 || x.is_sign_positive()))
            .prop_map(Atom::from)
            .boxed(),
        AtomicType::Boolean => any::<bool>().prop_map(Atom::from).boxed(),
        AtomicType::String => "\\PC{0,12}|[ -~]{0,12}|[\\x00-\\x1f\"\\\\]{0,4}".prop_map(Atom::from).boxed(),
        AtomicType::Uuid => any::<u128>().prop_map(|n| Atom::from(Uuid::from_u128(n))).boxed(),
    }
}

/// A type and two datums of it.
fn typed() -> impl Strategy<Value = (Type, Datum, Datum)> {
    (atomic_type(), prop::option::of(atomic_type())).prop_flat_map(|(key, value)| {
        let ty = Type { value: value.map(Into::into), ..Type::from(key) }.relaxed();
        let datum = move || match value {
            None => prop::collection::vec(atom(key), 0..8).prop_map(Datum::set).boxed(),
            Some(value) => prop::collection::vec((atom(key), atom(value)), 0..8).prop_map(Datum::map).boxed(),
        };
        // Sharing members makes differences interesting.
        (Just(ty), datum(), datum()).prop_flat_map(|(ty, a, b)| {
            let mixed = a.union(&b);
            (Just(ty), Just(mixed.clone()), prop_oneof![Just(a), Just(b), Just(mixed)])
        })
    })
}

proptest! {
    #[test]
    fn datums_survive_json((ty, a, _) in typed()) {
        let text = a.to_json().to_string();
        let back = Datum::from_json(&ty, &serde_json::from_str(&text).unwrap(), None).unwrap();
        prop_assert_eq!(&back, &a);
        prop_assert!(a.check(&ty).is_ok());
    }

    #[test]
    fn datums_survive_the_command_line((ty, a, _) in typed()) {
        // Reals are printed there with 15 digits, as in OVS.
        let real = |b: &ovsdb::BaseType| b.atomic == AtomicType::Real;
        prop_assume!(!real(&ty.key) && !ty.value.as_ref().is_some_and(real));
        prop_assert_eq!(Datum::from_text(&ty, &a.to_text(&ty), None), Ok(a));
    }

    #[test]
    fn differences_lead_there_and_back((ty, a, b) in typed()) {
        let diff = a.diff(&b, &ty);
        prop_assert_eq!(&a.apply(&diff, &ty).unwrap(), &b);
        prop_assert_eq!(a == b, diff.is_empty());
        prop_assert!(a.union(&b).includes(&a));
        prop_assert!(a.subtract(&a).is_empty());
        prop_assert!(a.subtract(&b).excludes(&b));
    }

    #[test]
    fn values_never_panic(json in any_json(), text in "[ -~]{0,30}", (ty, _, _) in typed()) {
        let _ = Datum::from_json(&ty, &json, None);
        let _ = Type::from_json(&json);
        let _ = Schema::from_json(&json);
        let _ = Datum::from_text(&ty, &text, None);
        let _ = Message::from_json(json);
    }

    #[test]
    fn schemas_never_panic(json in any_json()) {
        let _ = Schema::from_json(&json!({"name": "x", "tables": json.clone()}));
        let _ = Schema::from_json(&json!({"name": "x", "tables": {"t": json.clone()}}));
        let _ = Schema::from_json(&json!({"name": "x", "tables": {"t": {"columns": {"c": {"type": json}}}}}));
    }

    #[test]
    fn streams_and_journals_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
        let mut splitter = Splitter::new();
        for part in [&bytes[..cut.min(bytes.len())], &bytes[cut.min(bytes.len())..]] {
            splitter.push(part);
            while let Ok(Some(_)) = splitter.next_value() {}
        }
        let _ = journal::decode(&bytes);
    }

    /// However a stream of messages is cut into pieces, the same messages come out.
    #[test]
    fn splitting_does_not_depend_on_pieces(messages in prop::collection::vec(any_json(), 0..6), size in 1usize..20) {
        let messages: Vec<Value> = messages.into_iter().map(|m| json!([m])).collect();
        let stream: String = messages.iter().map(Value::to_string).collect();
        let (mut splitter, mut got) = (Splitter::new(), Vec::new());
        for piece in stream.as_bytes().chunks(size) {
            splitter.push(piece);
            while let Some(message) = splitter.next_value().unwrap() {
                got.push(message);
            }
        }
        prop_assert_eq!(got, messages);
    }

    #[test]
    fn journal_records_survive(records in prop::collection::vec(any_json(), 0..5), flip in any::<(prop::sample::Index, u8)>()) {
        let records: Vec<Value> = records.into_iter().map(|r| json!({"r": r})).collect();
        let mut bytes: Vec<u8> = records.iter().flat_map(journal::encode).collect();
        let read = journal::decode(&bytes);
        prop_assert_eq!((&read.records, &read.damage), (&records, &None));
        if !bytes.is_empty() && flip.1 != 0 {
            let at = flip.0.index(bytes.len());
            bytes[at] ^= flip.1;
            let read = journal::decode(&bytes);
            // The records before the damage are there; the case of a hash's digits is all that may differ unnoticed.
            prop_assert!(records.starts_with(&read.records));
            prop_assert!(read.damage.is_some() || read.records == records);
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = [
        "uuid",
        "set",
        "map",
        "named-uuid",
        "type",
        "key",
        "value",
        "min",
        "max",
        "enum",
        "integer",
        "string",
        "columns",
        "method",
        "params",
        "id",
        "unlimited",
        "refTable",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-100i64..100).prop_map(|n| json!(n as f64 / 4.0)),
        prop::sample::select(words.to_vec()).prop_map(Value::from),
        "[ -~]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((prop::sample::select(words.to_vec()), inner), 0..5)
                .prop_map(|pairs| Value::Object(pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())),
        ]
    })
}
