//! What a driver tells about its device, and a few features to switch: the ethtool ioctl.
//!
//! What enters: a device's name. What leaves: driver name, speed, duplex, link modes, feature bits. Neighbours: `device`, `af_xdp`. The ioctl is used, not
//! the netlink family, because old and new drivers answer it alike and no family number has to be looked up.

use flow::seam::LinkFeatures;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GDRVINFO: u32 = 0x03;
const GLINK: u32 = 0x0a;
const GLINKSETTINGS: u32 = 0x4c;
const GCHANNELS: u32 = 0x3c;
const SCHANNELS: u32 = 0x3d;

/// Bytes of struct ethtool_link_settings; its maps of link modes follow.
const LINK_SETTINGS: usize = 48;

const GIGABIT: u32 = 1 << 5;
const TEN_GIGABIT: u32 = 1 << 6;
const COPPER: u32 = 1 << 11;
const FIBER: u32 = 1 << 12;
const AUTONEG: u32 = 1 << 13;

/// ETHTOOL_LINK_MODE_*_BIT, first and last of a run, and the OFPPF_* that says each of them.
const LINK_MODES: [(usize, usize, u32); 18] = [
    (0, 0, 1 << 0),
    (1, 1, 1 << 1),
    (2, 2, 1 << 2),
    (3, 3, 1 << 3),
    (4, 4, 1 << 4),
    (5, 5, GIGABIT),
    (6, 6, AUTONEG),
    (7, 7, COPPER),
    (10, 10, FIBER),
    (12, 12, TEN_GIGABIT),
    (13, 13, 1 << 14),
    (14, 14, 1 << 15),
    (17, 17, GIGABIT),
    (18, 19, TEN_GIGABIT),
    (23, 26, 1 << 7),
    (36, 39, 1 << 8),
    (41, 41, GIGABIT),
    (42, 46, TEN_GIGABIT),
];

/// A feature with an ioctl of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Feature {
    /// Checksums of sent packets are completed by the device.
    TxChecksum = 0x16,
    /// TCP segmentation offload.
    Tso = 0x1e,
    /// Generic segmentation offload.
    Gso = 0x23,
    /// Generic receive offload.
    Gro = 0x2b,
}

/// What the driver says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DriverInfo {
    /// The driver's name.
    pub driver: String,
    /// Its version.
    pub version: String,
    /// The device's firmware.
    pub firmware: String,
    /// Where it is on its bus; empty for virtual devices.
    pub bus: String,
}

/// Speed, duplex and what else is known of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    /// Megabits a second; None if unknown.
    pub speed_mbps: Option<u32>,
    /// None if unknown.
    pub full_duplex: Option<bool>,
    /// The medium, and what the device can do.
    pub features: LinkFeatures,
}

/// Asks for the driver.
pub fn driver_info(name: &str) -> io::Result<DriverInfo> {
    let mut answer = [0u8; 196];
    answer[..4].copy_from_slice(&GDRVINFO.to_ne_bytes());
    ioctl(name, &mut answer)?;
    let text = |from: usize| super::wire::text(&answer[from..from + 32]);
    Ok(DriverInfo { driver: text(4), version: text(36), firmware: text(68), bus: text(100) })
}

/// Asks for speed, duplex and link modes.
pub fn link_settings(name: &str) -> io::Result<LinkSettings> {
    let mut answer = [0u8; LINK_SETTINGS + 3 * 4 * 127];
    answer[..4].copy_from_slice(&GLINKSETTINGS.to_ne_bytes());
    // The first call only learns how many words the bit maps have: the kernel answers with the negated count.
    ioctl(name, &mut answer)?;
    let words = answer[15].cast_signed();
    if words >= 0 {
        return Err(io::ErrorKind::Unsupported.into());
    }
    answer.fill(0);
    answer[..4].copy_from_slice(&GLINKSETTINGS.to_ne_bytes());
    answer[15] = words.unsigned_abs();
    ioctl(name, &mut answer)?;
    Ok(settings(&answer, usize::from(words.unsigned_abs())))
}

/// Reads struct ethtool_link_settings and the maps behind it: supported, advertised and the peer's, each of `words` words.
fn settings(answer: &[u8], words: usize) -> LinkSettings {
    let speed = u32::from_ne_bytes([answer[4], answer[5], answer[6], answer[7]]);
    let full_duplex = match answer[8] {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    let map = |which: usize| {
        let from = LINK_SETTINGS + 4 * words * which;
        let word = |n: usize| answer[from + 4 * n..].first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes));
        let has = |mode: usize| mode < 32 * words && word(mode / 32) >> (mode % 32) & 1 != 0;
        LINK_MODES.iter().filter(|(first, last, _)| (*first..=*last).any(has)).fold(0, |bits, (_, _, feature)| bits | feature)
    };
    let medium = match answer[9] {
        0 => COPPER,
        3 => FIBER,
        _ => 0,
    };
    let current = medium | if answer[11] != 0 { AUTONEG } else { 0 };
    let features = LinkFeatures { current, supported: map(0), advertised: map(1) };
    LinkSettings { speed_mbps: (speed != 0 && speed != u32::MAX).then_some(speed), full_duplex, features }
}

/// Whether the driver sees a link (ETHTOOL_GLINK).
pub fn link(name: &str) -> io::Result<bool> {
    let mut value = [0u8; 8];
    value[..4].copy_from_slice(&GLINK.to_ne_bytes());
    ioctl(name, &mut value)?;
    Ok(value[4..] != [0; 4])
}

/// Whether a feature is on.
pub fn feature(name: &str, feature: Feature) -> io::Result<bool> {
    let mut value = [0u8; 8];
    value[..4].copy_from_slice(&(feature as u32).to_ne_bytes());
    ioctl(name, &mut value)?;
    Ok(value[4..] != [0; 4])
}

/// Switches a feature. Each "set" command is the number after its "get".
pub fn set_feature(name: &str, feature: Feature, on: bool) -> io::Result<()> {
    let mut value = [0u8; 8];
    value[..4].copy_from_slice(&(feature as u32 + 1).to_ne_bytes());
    value[4..].copy_from_slice(&u32::from(on).to_ne_bytes());
    ioctl(name, &mut value)
}

/// Queues in use. A combined channel counts as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Receive queues.
    pub rx: u32,
    /// As many could there be.
    pub rx_max: u32,
    /// Transmit queues.
    pub tx: u32,
}

/// struct ethtool_channels: the command, maxima of rx, tx, other and combined, then the same four in use.
type ChannelWords = [u32; 9];
const RX_MAX: usize = 1;
const COMBINED_MAX: usize = 4;
const RX: usize = 5;
const TX: usize = 6;
const COMBINED: usize = 8;

/// Asks for the queues in use.
pub fn channels(name: &str) -> io::Result<Channels> {
    let words = channel_words(name)?;
    let used = |which: usize| words[which].saturating_add(words[COMBINED]);
    let rx_max = if words[COMBINED] > 0 { words[COMBINED_MAX] } else { words[RX_MAX] };
    Ok(Channels { rx: used(RX), rx_max, tx: used(TX) })
}

/// Makes the device have `n` receive queues; where its channels are combined it has as many transmit queues then. EINVAL: more than there
/// can be, or one of those that are to go has an AF_XDP socket.
pub fn set_rx_channels(name: &str, n: u32) -> io::Result<()> {
    let mut words = channel_words(name)?;
    let which = if words[COMBINED] > 0 { COMBINED } else { RX };
    let others = if which == COMBINED { words[RX] } else { 0 };
    words[which] = n.saturating_sub(others);
    channels_ioctl(name, SCHANNELS, &mut words)
}

fn channel_words(name: &str) -> io::Result<ChannelWords> {
    let mut words = ChannelWords::default();
    channels_ioctl(name, GCHANNELS, &mut words)?;
    Ok(words)
}

fn channels_ioctl(name: &str, command: u32, words: &mut ChannelWords) -> io::Result<()> {
    words[0] = command;
    let mut bytes = [0u8; size_of::<ChannelWords>()];
    for (to, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(&*words) {
        *to = word.to_ne_bytes();
    }
    ioctl(name, &mut bytes)?;
    for (word, from) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*from);
    }
    Ok(())
}

fn ioctl(name: &str, data: &mut [u8]) -> io::Result<()> {
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = crate::sys::ifreq(name)?;
    request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
    // SAFETY: `request` is a valid ifreq whose data points to a buffer that is large enough for the command in its first word.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's answer with these bytes and link modes.
    fn answer(bytes: &[(usize, u8)], supported: &[usize], advertised: &[usize]) -> LinkSettings {
        let words = 3;
        let mut answer = vec![0u8; LINK_SETTINGS + 3 * 4 * words];
        answer[4..8].copy_from_slice(&25_000u32.to_ne_bytes());
        bytes.iter().for_each(|(at, byte)| answer[*at] = *byte);
        for (which, modes) in [supported, advertised].into_iter().enumerate() {
            for mode in modes {
                let at = LINK_SETTINGS + 4 * (words * which + mode / 32);
                let word = u32::from_ne_bytes(*answer[at..].first_chunk().unwrap()) | 1 << (mode % 32);
                answer[at..at + 4].copy_from_slice(&word.to_ne_bytes());
            }
        }
        settings(&answer, words)
    }

    #[test]
    fn link_modes_are_told_as_openflow_numbers_them() {
        let fiber = answer(&[(8, 1), (9, 3), (11, 1)], &[5, 6, 10, 12, 24, 38, 70], &[6, 13]);
        let features = LinkFeatures {
            current: FIBER | AUTONEG,
            supported: GIGABIT | TEN_GIGABIT | 1 << 7 | 1 << 8 | AUTONEG | FIBER,
            advertised: AUTONEG | 1 << 14,
        };
        assert_eq!(fiber, LinkSettings { speed_mbps: Some(25_000), full_duplex: Some(true), features });
        // PORT_TP is 0: a veth says no more than that.
        assert_eq!(answer(&[], &[], &[]).features, LinkFeatures { current: COPPER, ..LinkFeatures::default() });
        assert_eq!(answer(&[(9, 0xff)], &[], &[]).features, LinkFeatures::default());
    }
}
