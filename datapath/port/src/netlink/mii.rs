//! What the PHY of a device says of its link: the MII ioctls, and ethtool where a driver has none.
//!
//! What enters: a device's name. What leaves: whether there is a link (IEEE 802.3 section 22.2.4.2.13, Link Status). Neighbours: `device`,
//! which asks it for bonds with `bond-detect-mode=miimon`.

use super::ethtool;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

const SIOCGMIIPHY: libc::c_ulong = 0x8947;
const SIOCGMIIREG: libc::c_ulong = 0x8948;
/// Register 1, basic mode status, and its bit 2.
const BMSR: u16 = 1;
const BMSR_LINK: u16 = 1 << 2;
/// Of struct mii_ioctl_data (phy_id, reg_num, val_in, val_out), which lies in the union of struct ifreq.
const WORDS: usize = 4;

/// Whether there is a link. A device that tells in neither way has none.
#[must_use]
pub fn has_link(name: &str) -> bool {
    let told = status(name).map(|status| status & BMSR_LINK != 0).or_else(|_| ethtool::link(name));
    told.unwrap_or_else(|error| {
        tracing::warn!(target: "netdev_linux", rl = 60, burst = 5, "{name}: asking for the link failed ({error})");
        false
    })
}

/// The basic mode status register.
fn status(name: &str) -> io::Result<u16> {
    let [phy, ..] = ioctl(name, SIOCGMIIPHY, [0; WORDS])?;
    let [.., value] = ioctl(name, SIOCGMIIREG, [phy, BMSR, 0, 0])?;
    Ok(value)
}

fn ioctl(name: &str, command: libc::c_ulong, words: [u16; WORDS]) -> io::Result<[u16; WORDS]> {
    let fd: OwnedFd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    let mut request = crate::sys::ifreq(name)?;
    let place = (&raw mut request.ifr_ifru).cast::<[u16; WORDS]>();
    // SAFETY: the union is 24 bytes of plain data that belong to `request`; eight of them are written, at an address aligned for u16.
    unsafe { place.write(words) };
    // SAFETY: `request` is a valid ifreq, which the kernel reads and writes for these commands.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), command, &raw mut request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: as for the write.
    Ok(unsafe { (&raw const request.ifr_ifru).cast::<[u16; WORDS]>().read() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_a_phy_is_asked_by_ethtool() {
        assert!(status("lo").is_err());
        assert!(has_link("lo"), "the loopback device is up wherever there are tests");
        assert!(!has_link("no-such-device"));
    }
}
