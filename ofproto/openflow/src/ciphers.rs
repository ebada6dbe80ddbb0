//! Which ciphers TLS may use, in the notation of OpenSSL's ciphers(1), which the options `--ssl-ciphers` (TLS 1.2) and
//! `--ssl-ciphersuites` (TLS 1.3) are written in.
//!
//! What enters: a cipher list. What leaves: rustls's suites, the preferred first. A list names suites, or classes of suites by a keyword;
//! `A+B` is what both name, `!` bans for good, `-` takes out, `+` puts last. A name that no suite here answers to stands for suites that
//! rustls does not have, and selects nothing: lists that ban weak ciphers are common. Only a list that leaves no suite is an error.

use rustls::SupportedCipherSuite;
use rustls::crypto::ring::cipher_suite as ring;

/// A suite of TLS 1.2: its name, bits of its key, and the keywords that it answers to beside those that every suite here does.
struct Row {
    name: &'static str,
    suite: SupportedCipherSuite,
    bits: u16,
    keywords: &'static [&'static str],
}

/// Keywords of all suites below: they are strong, agree on a key by ephemeral elliptic curves, and came with TLS 1.2.
const COMMON: [&str; 9] = ["ALL", "DEFAULT", "HIGH", "ECDHE", "EECDH", "kECDHE", "kEECDH", "TLSv1.2", "FIPS"];
const ECDSA_AES256: &[&str] = &["ECDSA", "aECDSA", "AES", "AES256", "AESGCM"];
const ECDSA_AES128: &[&str] = &["ECDSA", "aECDSA", "AES", "AES128", "AESGCM"];
const ECDSA_CHACHA: &[&str] = &["ECDSA", "aECDSA", "CHACHA20"];
const RSA_AES256: &[&str] = &["aRSA", "AES", "AES256", "AESGCM"];
const RSA_AES128: &[&str] = &["aRSA", "AES", "AES128", "AESGCM"];
const RSA_CHACHA: &[&str] = &["aRSA", "CHACHA20"];

const fn row(name: &'static str, suite: SupportedCipherSuite, bits: u16, keywords: &'static [&'static str]) -> Row {
    Row { name, suite, bits, keywords }
}

/// In rustls's order of preference.
static ROWS: [Row; 6] = [
    row("ECDHE-ECDSA-AES256-GCM-SHA384", ring::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, 256, ECDSA_AES256),
    row("ECDHE-ECDSA-AES128-GCM-SHA256", ring::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, 128, ECDSA_AES128),
    row("ECDHE-ECDSA-CHACHA20-POLY1305", ring::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, 256, ECDSA_CHACHA),
    row("ECDHE-RSA-AES256-GCM-SHA384", ring::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, 256, RSA_AES256),
    row("ECDHE-RSA-AES128-GCM-SHA256", ring::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, 128, RSA_AES128),
    row("ECDHE-RSA-CHACHA20-POLY1305", ring::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, 256, RSA_CHACHA),
];

/// The suites of TLS 1.3, which have no classes.
static SUITES: [(&str, SupportedCipherSuite); 3] = [
    ("TLS_AES_256_GCM_SHA384", ring::TLS13_AES_256_GCM_SHA384),
    ("TLS_AES_128_GCM_SHA256", ring::TLS13_AES_128_GCM_SHA256),
    ("TLS_CHACHA20_POLY1305_SHA256", ring::TLS13_CHACHA20_POLY1305_SHA256),
];

/// A list that leaves nothing, or makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CipherError {
    #[error("{0}: no cipher match")]
    NoMatch(String),
    #[error("{0}: invalid command")]
    BadCommand(String),
}

/// The suites that `ciphers` (TLS 1.2) and `suites` (TLS 1.3) leave; "" stands for all of them.
///
/// # Errors
/// One of the lists leaves none.
pub fn select(ciphers: &str, suites: &str) -> Result<Vec<SupportedCipherSuite>, CipherError> {
    let mut chosen = suites_of(suites)?;
    chosen.extend(ciphers_of(ciphers)?.into_iter().map(|row| row.suite));
    Ok(chosen)
}

fn suites_of(list: &str) -> Result<Vec<SupportedCipherSuite>, CipherError> {
    if list.is_empty() {
        return Ok(SUITES.iter().map(|(_, suite)| *suite).collect());
    }
    let none = || CipherError::NoMatch(list.to_owned());
    let find = |name: &str| SUITES.iter().find(|(known, _)| *known == name).map(|(_, suite)| *suite).ok_or_else(none);
    let found: Vec<_> = list.split(':').filter(|name| !name.is_empty()).map(find).collect::<Result<_, _>>()?;
    if found.is_empty() { Err(none()) } else { Ok(found) }
}

fn ciphers_of(list: &str) -> Result<Vec<&'static Row>, CipherError> {
    if list.is_empty() {
        return Ok(ROWS.iter().collect());
    }
    let mut chosen: Vec<&'static Row> = Vec::new();
    let mut banned: Vec<&'static str> = Vec::new();
    for word in list.split([':', ',', ' ', ';']).filter(|word| !word.is_empty()) {
        let (sign, names) = match word.as_bytes()[0] {
            sign @ (b'!' | b'-' | b'+') => (Some(sign), &word[1..]),
            b'@' if word == "@STRENGTH" => {
                chosen.sort_by_key(|row| std::cmp::Reverse(row.bits));
                continue;
            }
            b'@' if word.starts_with("@SECLEVEL=") => continue,
            b'@' => return Err(CipherError::BadCommand(word.to_owned())),
            _ => (None, word),
        };
        let named = |row: &Row| names.split('+').all(|name| row.answers(name));
        match sign {
            None => {
                let new = |row: &&Row| named(row) && !banned.contains(&row.name) && !chosen.iter().any(|c| c.name == row.name);
                let more: Vec<_> = ROWS.iter().filter(new).collect();
                chosen.extend(more);
            }
            Some(b'+') => {
                let (last, first): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|row| named(row));
                chosen = first.into_iter().chain(last).collect();
            }
            Some(sign) => {
                chosen.retain(|row| !named(row));
                if sign == b'!' {
                    banned.extend(ROWS.iter().filter(|row| named(row)).map(|row| row.name));
                }
            }
        }
    }
    if chosen.is_empty() { Err(CipherError::NoMatch(list.to_owned())) } else { Ok(chosen) }
}

impl Row {
    fn answers(&self, name: &str) -> bool {
        self.name == name || COMMON.contains(&name) || self.keywords.contains(&name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names of a list's suites, without what all of them begin with.
    fn check(list: &str, expect: &str) {
        let got = match ciphers_of(list) {
            Ok(rows) => rows.iter().map(|row| row.name.strip_prefix("ECDHE-").unwrap()).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expect, "{list}");
    }

    #[test]
    fn lists_select_as_openssl_does() {
        let all = "ECDSA-AES256-GCM-SHA384 ECDSA-AES128-GCM-SHA256 ECDSA-CHACHA20-POLY1305 RSA-AES256-GCM-SHA384 RSA-AES128-GCM-SHA256 RSA-CHACHA20-POLY1305";
        check("", all);
        check("HIGH:!aNULL:!MD5", all);
        check("DEFAULT", all);
        check("aRSA", "RSA-AES256-GCM-SHA384 RSA-AES128-GCM-SHA256 RSA-CHACHA20-POLY1305");
        check("ECDSA+AESGCM", "ECDSA-AES256-GCM-SHA384 ECDSA-AES128-GCM-SHA256");
        check("CHACHA20,AES256+aRSA", "ECDSA-CHACHA20-POLY1305 RSA-CHACHA20-POLY1305 RSA-AES256-GCM-SHA384");
        check("ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384", "RSA-AES128-GCM-SHA256 RSA-AES256-GCM-SHA384");
        check("aRSA:-AES:AES128+aRSA", "RSA-CHACHA20-POLY1305 RSA-AES128-GCM-SHA256");
        check("aRSA:!AES:AES128", "RSA-CHACHA20-POLY1305");
        check("aRSA:+AES256", "RSA-AES128-GCM-SHA256 RSA-CHACHA20-POLY1305 RSA-AES256-GCM-SHA384");
        check("AES128+aRSA:AES256+aRSA:@STRENGTH:@SECLEVEL=2", "RSA-AES256-GCM-SHA384 RSA-AES128-GCM-SHA256");
        check("RC4-MD5", "RC4-MD5: no cipher match");
        check("ALL:!ALL", "ALL:!ALL: no cipher match");
        check("ALL:@NOPE", "@NOPE: invalid command");
    }

    #[test]
    fn suites_of_tls_1_3_go_by_name() {
        assert_eq!(suites_of("").unwrap().len(), 3);
        let both = suites_of("TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256").unwrap();
        assert_eq!(both, [ring::TLS13_CHACHA20_POLY1305_SHA256, ring::TLS13_AES_128_GCM_SHA256]);
        assert!(suites_of("TLS_AES_128_CCM_SHA256").is_err());
        assert_eq!(select("aRSA", "TLS_AES_256_GCM_SHA384").unwrap().len(), 4);
    }
}
