//! `bond/hash`: into which of a bond's 256 buckets a source MAC falls. (Bonds themselves are configured, and shown, by the slow path.)

use crate::bridge::rows::parse_mac;
use crate::daemon::Daemon;
use crate::unixctl::{Answer, Command};

/// The rows.
pub const COMMANDS: &[Command<Daemon>] = &[Command::now("bond/hash", Some("mac [vlan] [basis]"), (1, 3), |_, args| hash(args))];

/// Buckets of a bond.
const BUCKETS: u32 = 256;

fn hash(args: &[String]) -> Answer {
    let number = |at: usize| args.get(at).map_or(Some(0), |text| text.parse::<u32>().ok());
    let vlan = number(1);
    let basis = number(2);
    let mac = parse_mac(&args[0]);
    let vlan = vlan.ok_or("invalid vlan")?;
    let mac = mac.ok_or("invalid mac")?;
    let basis = basis.ok_or("invalid basis")?;
    Ok((bond_hash(mac, vlan, basis) % BUCKETS).to_string())
}

/// MurmurHash3 (x86, 32 bits) over MAC and VLAN as one 64-bit number, as OVS hashes them where the machine is asked for nothing better.
#[allow(clippy::cast_possible_truncation, reason = "the halves of a 64-bit number, and a VLAN's 16 bits")]
fn bond_hash(mac: [u8; 6], vlan: u32, basis: u32) -> u32 {
    let mac = mac.iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let both = mac | u64::from(vlan as u16) << 48;
    finish(add(add(basis, both as u32), (both >> 32) as u32) ^ 8)
}

fn add(hash: u32, data: u32) -> u32 {
    let data = data.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    (hash ^ data).rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64)
}

fn finish(mut hash: u32) -> u32 {
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_that_ovs_gives() {
        let check = |line: &str, expect: Result<&str, &str>| {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(hash(&args), expect.map(str::to_owned).map_err(str::to_owned), "{line}");
        };
        check("00:11:22:33:44:55", Ok("226"));
        check("00:11:22:33:44:55 10", Ok("69"));
        check("aa:bb:cc:dd:ee:ff 4095 77", Ok("57"));
        check("aa:bb:cc:dd:ee:ff 1 4294967295", Ok("92"));
        check("aa:bb:cc:dd:ee:ff 5000", Ok("189"));
        check("mac", Err("invalid mac"));
        check("mac vlan", Err("invalid vlan"));
        check("mac vlan basis", Err("invalid vlan"));
        check("aa:bb:cc:dd:ee:ff 1 x", Err("invalid basis"));
    }
}
