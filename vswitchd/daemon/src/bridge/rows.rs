//! Rows of the database as the bridge room reads them: by the columns that `schema` declares, with the value that a missing column would
//! have had (an older server's schema lacks some). Behind a trait, so that tests build configurations without a server.

use super::schema::{Boolean, Column, Integer, Integers, Named, Numbered, Numbers, OpenVswitch, Pairs, Refs, Table, Text, Texts};
use ovsdb::{Datum, IdlRow};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::rc::Rc;
use uuid::Uuid;

/// A copy of the database's tables.
pub trait Replica {
    /// Every row of a table, in a stable order.
    fn uuids(&self, table: &str) -> Vec<Uuid>;
    /// A row; `None` if there is no such table or row.
    fn row(&self, table: &str, uuid: Uuid) -> Option<Rc<dyn Columns>>;
}

/// What a row holds.
pub trait Columns {
    /// A column; `None` if the server's schema has none of that name.
    fn get(&self, column: &str) -> Option<&Datum>;
}

impl Replica for ovsdb::Replica {
    fn uuids(&self, table: &str) -> Vec<Uuid> {
        let mut uuids: Vec<Uuid> = self.rows(table).map(|row| row.uuid()).collect();
        uuids.sort_unstable();
        uuids
    }

    fn row(&self, table: &str, uuid: Uuid) -> Option<Rc<dyn Columns>> {
        Some(Rc::new(Self::row(self, table, &uuid)?))
    }
}

impl Columns for IdlRow {
    fn get(&self, column: &str) -> Option<&Datum> {
        Self::get(self, column)
    }
}

/// One row of table `T`.
#[derive(Clone)]
pub(crate) struct Row<'a, T> {
    replica: &'a dyn Replica,
    pub(crate) uuid: Uuid,
    columns: Rc<dyn Columns>,
    table: PhantomData<fn() -> T>,
}

impl<T: Table> std::fmt::Debug for Row<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", T::NAME, self.uuid)
    }
}

/// All rows of a table.
pub(crate) fn rows<T: Table>(replica: &dyn Replica) -> Vec<Row<'_, T>> {
    replica.uuids(T::NAME).into_iter().filter_map(|uuid| Row::new(replica, uuid)).collect()
}

/// The Open_vSwitch row, if the database has been initialised.
pub(crate) fn open_vswitch(replica: &dyn Replica) -> Option<Row<'_, OpenVswitch>> {
    rows(replica).into_iter().next()
}

impl<'a, T: Table> Row<'a, T> {
    /// The row of that identity, if there is one (a reference may dangle while a monitor's updates are applied).
    pub(crate) fn new(replica: &'a dyn Replica, uuid: Uuid) -> Option<Self> {
        Some(Self { replica, uuid, columns: replica.row(T::NAME, uuid)?, table: PhantomData })
    }

    /// The database that it stands in.
    pub(crate) fn replica(&self) -> &'a dyn Replica {
        self.replica
    }

    /// The raw column; `None` if the server's schema does not have it.
    pub(crate) fn datum<K>(&self, column: Column<T, K>) -> Option<&Datum> {
        self.columns.get(column.name)
    }

    /// A string; empty if unset.
    pub(crate) fn str(&self, column: Column<T, Text>) -> &str {
        self.opt_str(column).unwrap_or("")
    }

    /// An optional string.
    pub(crate) fn opt_str(&self, column: Column<T, Text>) -> Option<&str> {
        self.datum(column)?.as_str()
    }

    /// An integer; 0 if unset.
    pub(crate) fn int(&self, column: Column<T, Integer>) -> i64 {
        self.opt_int(column).unwrap_or(0)
    }

    /// An optional integer.
    pub(crate) fn opt_int(&self, column: Column<T, Integer>) -> Option<i64> {
        self.datum(column)?.as_int()
    }

    /// A boolean; false if unset.
    pub(crate) fn bool(&self, column: Column<T, Boolean>) -> bool {
        self.datum(column).and_then(Datum::as_bool).unwrap_or(false)
    }

    /// A set of strings.
    pub(crate) fn strings(&self, column: Column<T, Texts>) -> Vec<&str> {
        self.datum(column).map(|d| d.strings().collect()).unwrap_or_default()
    }

    /// A set of VLANs.
    pub(crate) fn vlans(&self, column: Column<T, Integers>) -> Vec<u16> {
        let ints = self.datum(column).into_iter().flat_map(Datum::ints);
        ints.filter_map(|v| u16::try_from(v).ok()).filter(|v| *v < 4096).collect()
    }

    /// A map of strings.
    pub(crate) fn map(&self, column: Column<T, Pairs>) -> Map {
        Map(self.datum(column).map(Datum::str_map).unwrap_or_default())
    }

    /// The rows that a column refers to, in the order of their identities.
    pub(crate) fn refs<U: Table>(&self, column: Column<T, Refs<U>>) -> Vec<Row<'a, U>> {
        let uuids = self.datum(column).into_iter().flat_map(Datum::uuids);
        uuids.filter_map(|uuid| Row::new(self.replica, uuid)).collect()
    }

    /// Pairs of a string-keyed map of references.
    pub(crate) fn named_refs<U: Table>(&self, column: Column<T, Named<U>>) -> Vec<(String, Row<'a, U>)> {
        let pairs = self.datum(column).into_iter().flat_map(Datum::pairs);
        pairs.filter_map(|(k, v)| Some((k.as_str()?.to_owned(), Row::new(self.replica, v.as_uuid()?)?))).collect()
    }

    /// Pairs of a map of integers.
    pub(crate) fn int_pairs(&self, column: Column<T, Numbers>) -> Vec<(i64, i64)> {
        let pairs = self.datum(column).into_iter().flat_map(Datum::pairs);
        pairs.filter_map(|(k, v)| Some((k.as_int()?, v.as_int()?))).collect()
    }

    /// Pairs of an integer-keyed map of references.
    pub(crate) fn numbered_refs<U: Table>(&self, column: Column<T, Numbered<U>>) -> Vec<(i64, Row<'a, U>)> {
        let pairs = self.datum(column).into_iter().flat_map(Datum::pairs);
        pairs.filter_map(|(k, v)| Some((k.as_int()?, Row::new(self.replica, v.as_uuid()?)?))).collect()
    }
}

/// A map column, with the readings of values that ovs-vswitchd.conf.db(5) has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Map(pub BTreeMap<String, String>);

impl Map {
    /// The value at a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// "true" and "false" in lower case; anything else is the default.
    pub fn bool(&self, key: &str, default: bool) -> bool {
        match self.get(key) {
            Some("true") => true,
            Some("false") => false,
            Some(_) | None => default,
        }
    }

    /// An integer, decimal or 0x hexadecimal; the default if absent. What begins with no digit is 0, as strtoll(3) has it.
    pub fn int(&self, key: &str, default: i64) -> i64 {
        self.get(key).map_or(default, parse_int)
    }

    /// An integer from 0 up to what `T` holds, else the default.
    pub fn number<T: TryFrom<i64>>(&self, key: &str, default: T) -> T {
        self.get(key).and_then(|text| T::try_from(parse_int(text)).ok()).unwrap_or(default)
    }

    /// All pairs, as configuration structs carry them.
    pub fn pairs(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
    }
}

fn parse_int(text: &str) -> i64 {
    let text = text.trim();
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let (radix, digits) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")).map_or((10, digits), |hex| (16, hex));
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    match &digits[..end] {
        "" => 0,
        digits => i64::from_str_radix(digits, radix).map_or(sign * i64::MAX, |n| sign * n),
    }
}

/// `xx:xx:xx:xx:xx:xx`; each byte of one or two digits.
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| (1..=2).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// The text of a MAC.
pub fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}

#[cfg(test)]
pub mod test_replica {
    //! A replica made of text: one line per row, `Table NAME column=value column=value ...`. A value is a word, `{a b}` a set, `{k=v}`
    //! a map, `@NAME` a reference.

    use super::*;
    use ovsdb::Atom;

    /// The rows, keyed by table and then by the order of their lines.
    #[derive(Debug, Default)]
    pub struct Text(Vec<(String, Uuid, BTreeMap<String, Datum>)>);

    fn id(name: &str) -> Uuid {
        Uuid::from_u128(name.bytes().fold(0xfe, |h: u128, b| h.wrapping_mul(0x1_0000_01b3).wrapping_add(b.into())))
    }

    fn atom(text: &str) -> Atom {
        if let Some(name) = text.strip_prefix('@') {
            return id(name).into();
        }
        match text {
            "true" => true.into(),
            "false" => false.into(),
            _ => text.parse::<i64>().map_or_else(|_| text.trim_matches('"').into(), Atom::from),
        }
    }

    fn datum(text: &str) -> Datum {
        let Some(inner) = text.strip_prefix('{').and_then(|t| t.strip_suffix('}')) else {
            return Datum::from(atom(text));
        };
        if inner.contains('=') {
            let pairs = inner.split(',').filter_map(|p| p.split_once('='));
            // Map values are strings in this schema, but for references.
            return Datum::map(pairs.map(|(k, v)| match v.strip_prefix('@') {
                Some(name) => (atom(k), Atom::from(id(name))),
                None => (Atom::from(k), Atom::from(v)),
            }));
        }
        Datum::set(inner.split(',').filter(|w| !w.is_empty()).map(atom))
    }

    impl Text {
        pub fn new(text: &str) -> Self {
            let mut rows = Vec::new();
            for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
                let mut words = line.split_whitespace();
                let (table, name) = (words.next().unwrap(), words.next().unwrap());
                let mut columns: BTreeMap<String, Datum> =
                    words.map(|w| w.split_once('=').unwrap()).map(|(c, v)| (c.to_owned(), datum(v))).collect();
                columns.entry("name".into()).or_insert_with(|| Datum::from(name));
                rows.push((table.to_owned(), id(name), columns));
            }
            Self(rows)
        }
    }

    impl Replica for Text {
        fn uuids(&self, table: &str) -> Vec<Uuid> {
            self.0.iter().filter(|r| r.0 == table).map(|r| r.1).collect()
        }

        fn row(&self, table: &str, uuid: Uuid) -> Option<Rc<dyn Columns>> {
            let row = self.0.iter().find(|r| r.0 == table && r.1 == uuid)?;
            Some(Rc::new(row.2.clone()))
        }
    }

    impl Columns for BTreeMap<String, Datum> {
        fn get(&self, column: &str) -> Option<&Datum> {
            Self::get(self, column)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_macs_as_operators_write_them() {
        let map = Map([("a", "0x10"), ("b", "7x"), ("c", "x"), ("d", "-3")].map(|(k, v)| (k.into(), v.into())).into());
        assert_eq!((map.int("a", 0), map.int("b", 0), map.int("c", 9), map.int("e", 9)), (16, 7, 0, 9));
        assert_eq!(map.number::<u32>("d", 5), 5);
        assert_eq!(parse_mac("aa:55:AA:5:00:0f"), Some([0xaa, 0x55, 0xaa, 5, 0, 15]));
        assert_eq!(parse_mac("aa:55:aa:55:00"), None);
        assert_eq!(parse_mac("aa:55:aa:55:00:00:00"), None);
        assert_eq!(mac_text([0xaa, 0x55, 0, 1, 2, 3]), "aa:55:00:01:02:03");
    }
}
