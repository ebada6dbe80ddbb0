//! Keys of the database's maps (`other_config`, `bfd`, `lldp`), read with OVS's defaults for what is absent or is not understood.

/// A map as configured.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(pub &'a [(String, String)]);

impl<'a> Options<'a> {
    /// The value of a key.
    #[must_use]
    pub fn get(self, key: &str) -> Option<&'a str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// "true" or "false" in any case; anything else is the default.
    #[must_use]
    pub fn bool(self, key: &str, default: bool) -> bool {
        match self.get(key) {
            Some(text) if default => !text.eq_ignore_ascii_case("false"),
            Some(text) => text.eq_ignore_ascii_case("true"),
            None => default,
        }
    }

    /// A decimal number; anything else is the default.
    #[must_use]
    pub fn int(self, key: &str, default: i64) -> i64 {
        self.get(key).and_then(|text| text.trim().parse().ok()).unwrap_or(default)
    }

    /// A number within a range; anything else is `None`.
    #[must_use]
    pub fn within(self, key: &str, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        Some(self.int(key, i64::MIN)).filter(|n| range.contains(n))
    }

    /// A MAC address that is not zero.
    #[must_use]
    pub fn mac(self, key: &str) -> Option<[u8; 6]> {
        self.get(key).and_then(parse_mac).filter(|mac| *mac != [0; 6])
    }
}

/// `xx:xx:xx:xx:xx:xx`, digits in either case.
#[must_use]
pub fn parse_mac(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|p| (1..=2).contains(&p.len()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

/// `xx:xx:xx:xx:xx:xx`
#[must_use]
pub fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_stand_for_what_is_not_understood() {
        let map: Vec<(String, String)> =
            [("t", "TRUE"), ("f", "False"), ("x", "maybe"), ("n", "12"), ("m", "aa:bb:cc:dd:ee:0F"), ("z", "0:0:0:0:0:0")]
                .map(|(k, v)| (k.into(), v.into()))
                .to_vec();
        let o = Options(&map);
        assert!(o.bool("t", false) && !o.bool("f", true) && o.bool("x", true) && !o.bool("x", false) && o.bool("absent", true));
        assert_eq!((o.int("n", 5), o.int("x", 5), o.int("absent", 6)), (12, 5, 6));
        assert_eq!(
            (o.within("n", 1..=12), o.within("n", 13..=20), o.within("x", i64::MIN + 1..=i64::MAX)),
            (Some(12), None, None)
        );
        assert_eq!(o.mac("m"), Some([0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0x0f]));
        assert_eq!((o.mac("z"), o.mac("x"), parse_mac("1:2:3:4:5:6:7")), (None, None, None));
        assert_eq!(mac_text([1, 2, 3, 4, 5, 0xab]), "01:02:03:04:05:ab");
    }
}
