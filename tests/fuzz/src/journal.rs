//! Fuzzing the journal: any bytes as a database file, and any lines of JSON as its records with right hashes.
//!
//! What is read up to the damage is read again when it stands alone, and nothing in it makes the replay panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ovsdb::journal::{decode, encode};
use ovsdb::store::Store;
use serde_json::Value;

fuzz_target!(|input: &[u8]| {
    let contents = decode(input);
    assert_eq!(contents.records.len(), contents.offsets.len());
    let end = usize::try_from(contents.end).expect("inside the input");
    let again = decode(&input[..end]);
    assert!(again.damage.is_none() && again.records == contents.records);
    let _ = Store::from_bytes(input);
    let records = input.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let bytes: Vec<u8> = records.filter(Value::is_object).flat_map(|record| encode(&record)).collect();
    assert!(decode(&bytes).damage.is_none());
    let _ = Store::from_bytes(&bytes);
});
