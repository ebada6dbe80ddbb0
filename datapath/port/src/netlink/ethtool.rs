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

/// How many receive queues (combined or rx-only channels) are in use.
pub fn rx_channels(name: &str) -> io::Result<u32> {
    let mut answer = [0u8; 36];
    answer[..4].copy_from_slice(&GCHANNELS.to_ne_bytes());
    ioctl(name, &mut answer)?;
    // cmd, then maxima of rx, tx, other, combined, then the same four in use.
    let word = |i: usize| u32::from_ne_bytes([answer[i * 4], answer[i * 4 + 1], answer[i * 4 + 2], answer[i * 4 + 3]]);
    Ok(word(5) + word(8))
}

fn ioctl(name: &str, data: &mut [u8]) -> io::Result<()> {
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = crate::sys::ifreq(name)?;
    request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
    // SAFETY: `request` is a valid ifreq whose data points to a buffer that is large enough for the command in its first word.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
