//! What a driver tells about its device, and a few features to switch: the ethtool ioctl.
//!
//! What enters: a device's name. What leaves: driver name, speed, duplex, feature bits. Neighbours: `device`, `af_xdp`. The ioctl is used, not
//! the netlink family, because old and new drivers answer it alike and no family number has to be looked up.

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const SIOCETHTOOL: libc::c_ulong = 0x8946;
const GDRVINFO: u32 = 0x03;
const GLINK: u32 = 0x0a;
const GLINKSETTINGS: u32 = 0x4c;
const GCHANNELS: u32 = 0x3c;
const SCHANNELS: u32 = 0x3d;

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

/// Speed and duplex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSettings {
    /// Megabits a second; None if unknown.
    pub speed_mbps: Option<u32>,
    /// None if unknown.
    pub full_duplex: Option<bool>,
}

/// Asks for the driver.
pub fn driver_info(name: &str) -> io::Result<DriverInfo> {
    let mut answer = [0u8; 196];
    answer[..4].copy_from_slice(&GDRVINFO.to_ne_bytes());
    ioctl(name, &mut answer)?;
    let text = |from: usize| super::wire::text(&answer[from..from + 32]);
    Ok(DriverInfo { driver: text(4), version: text(36), firmware: text(68), bus: text(100) })
}

/// Asks for speed and duplex.
pub fn link_settings(name: &str) -> io::Result<LinkSettings> {
    const FIXED: usize = 48;
    let mut answer = [0u8; FIXED + 3 * 4 * 127];
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
    let speed = u32::from_ne_bytes([answer[4], answer[5], answer[6], answer[7]]);
    let full_duplex = match answer[8] {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    };
    Ok(LinkSettings { speed_mbps: (speed != 0 && speed != u32::MAX).then_some(speed), full_duplex })
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
