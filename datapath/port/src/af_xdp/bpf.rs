//! The redirect program and its socket map: what the kernel has to know before frames reach our sockets.
//!
//! What enters: a device, sockets by queue. What leaves: descriptors that keep the program attached as long as they are open (a bpf link:
//! a killed daemon leaves no program behind). Neighbours: `af_xdp`.
//!
//! The plain program is six instructions, encoded here: "redirect to the socket of this receive queue; if there is none, pass on to
//! the kernel's stack". So frames are never lost while sockets come and go.
//!
//! A VLAN tag may stand beside the frame, not in it: a container's VLAN device leaves it to veth, hardware strips it. The program for
//! drivers asks for the tag (bpf_xdp_metadata_rx_vlan_tag, Linux 6.8) and puts it back into the frame; if the kernel does not load
//! that program, the plain one serves. Kernel functions may be called by programs only that say they are GPL-compatible, so these
//! instructions may be used under the GPL as well as under this project's licence.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

const MAP_CREATE: libc::c_int = 0;
const MAP_UPDATE_ELEM: libc::c_int = 2;
const MAP_DELETE_ELEM: libc::c_int = 3;
const PROG_LOAD: libc::c_int = 5;
const LINK_CREATE: libc::c_int = 28;
const MAP_TYPE_XSKMAP: u32 = 17;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;

/// How a program is attached (XDP_FLAGS_*).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Mode {
    /// In the driver.
    Native = 1 << 2,
    /// In the stack, for any device.
    Generic = 1 << 1,
}

/// The start of union bpf_attr: more than any command used here reads.
#[repr(C, align(8))]
struct Attr {
    words: [u32; 32],
}

impl Attr {
    const fn new() -> Self {
        Self { words: [0; 32] }
    }

    const fn word(mut self, at: usize, value: u32) -> Self {
        self.words[at] = value;
        self
    }

    /// A 64-bit field (pointers), at an even word.
    fn long(mut self, at: usize, value: u64) -> Self {
        let [low, high] = [value & 0xffff_ffff, value >> 32].map(|half| u32::try_from(half).expect("half of a word"));
        let (first, second) = if cfg!(target_endian = "little") { (low, high) } else { (high, low) };
        self.words[at] = first;
        self.words[at + 1] = second;
        self
    }
}

fn bpf(command: libc::c_int, attr: &mut Attr) -> io::Result<RawFd> {
    let attr: *mut Attr = attr;
    // SAFETY: `attr` is 128 bytes, and every pointer in it was made from a live reference by the callers in this file.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr, size_of::<Attr>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(RawFd::try_from(result).expect("descriptors are ints"))
}

fn bpf_fd(command: libc::c_int, attr: &mut Attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    // SAFETY: the kernel has just opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn address<T>(value: &T) -> u64 {
    (&raw const *value).addr() as u64
}

/// One eBPF instruction.
const fn instruction(code: u8, registers: u8, offset: i16, value: i32) -> u64 {
    let offset = offset.cast_unsigned().to_le_bytes();
    let value = value.cast_unsigned().to_le_bytes();
    u64::from_ne_bytes([code, registers, offset[0], offset[1], value[0], value[1], value[2], value[3]])
}

/// The redirect program for a map.
fn redirect(map: RawFd) -> Vec<u64> {
    vec![
        // r2 = ctx->rx_queue_index (struct xdp_md, offset 16)
        instruction(0x61, 0x12, 16, 0),
        // r1 = map (a 64-bit immediate takes two slots; source 1 says that it is a map's descriptor)
        instruction(0x18, 0x11, 0, map),
        instruction(0, 0, 0, 0),
        // r3 = XDP_PASS, what happens without a socket
        instruction(0xb7, 0x03, 0, 2),
        // r0 = bpf_redirect_map(r1, r2, r3)
        instruction(0x85, 0, 0, 51),
        // return r0
        instruction(0x95, 0, 0, 0),
    ]
}

/// The program that puts VLAN tags back first; `kfunc` is the type id of the kernel's function.
fn untangle(map: RawFd, kfunc: i32) -> Vec<u64> {
    const DROP: i32 = 1;
    const PASS: i32 = 2;
    vec![
        // r6 = ctx; r9 = what happens without a socket; room for the tag at r10 - 8
        instruction(0xbf, 0x16, 0, 0),
        instruction(0xb7, 0x09, 0, PASS),
        instruction(0x7a, 0x0a, -8, 0),
        // r0 = bpf_xdp_metadata_rx_vlan_tag(ctx, r10 - 8, r10 - 6)
        instruction(0xbf, 0xa2, 0, 0),
        instruction(0x07, 0x02, 0, -8),
        instruction(0xbf, 0xa3, 0, 0),
        instruction(0x07, 0x03, 0, -6),
        instruction(0x85, 0x20, 0, kfunc),
        // no tag: go on with the redirection
        instruction(0x55, 0x00, 20, 0),
        // r0 = bpf_xdp_adjust_head(ctx, -4); on failure drop: a frame without its tag would enter the wrong network
        instruction(0xbf, 0x61, 0, 0),
        instruction(0xb7, 0x02, 0, -4),
        instruction(0x85, 0, 0, 44),
        instruction(0x55, 0x00, 22, 0),
        // r7 = data; r1 = data + 16, beyond data_end: drop
        instruction(0x61, 0x67, 0, 0),
        instruction(0x61, 0x68, 4, 0),
        instruction(0xbf, 0x71, 0, 0),
        instruction(0x07, 0x01, 0, 16),
        instruction(0x2d, 0x81, 17, 0),
        // the addresses move four bytes to the front
        instruction(0x61, 0x71, 4, 0),
        instruction(0x63, 0x17, 0, 0),
        instruction(0x61, 0x71, 8, 0),
        instruction(0x63, 0x17, 4, 0),
        instruction(0x61, 0x71, 12, 0),
        instruction(0x63, 0x17, 8, 0),
        // the tag: its type is in network order already, the rest is not
        instruction(0x69, 0xa1, -8, 0),
        instruction(0x6b, 0x17, 12, 0),
        instruction(0x69, 0xa1, -6, 0),
        instruction(0xdc, 0x01, 0, 16),
        instruction(0x6b, 0x17, 14, 0),
        // (jump target) r0 = bpf_redirect_map(map, queue, r9)
        instruction(0x61, 0x62, 16, 0),
        instruction(0x18, 0x11, 0, map),
        instruction(0, 0, 0, 0),
        instruction(0xbf, 0x93, 0, 0),
        instruction(0x85, 0, 0, 51),
        instruction(0x95, 0, 0, 0),
        // (jump target) return XDP_DROP
        instruction(0xb7, 0x00, 0, DROP),
        instruction(0x95, 0, 0, 0),
    ]
}

/// The type id of a function in the kernel's own BTF (Documentation/bpf/btf.rst); None if there is no such function.
fn kernel_function(btf: &[u8], name: &str) -> Option<i32> {
    let word = |at: usize| Some(u32::from_ne_bytes(*btf.get(at..)?.first_chunk()?) as usize);
    if btf.get(..2)? != 0xeb9f_u16.to_ne_bytes() {
        return None;
    }
    let header = word(4)?;
    let (mut at, strings) = (header + word(8)?, header + word(16)?);
    let end = at + word(12)?;
    let mut id = 1;
    while at < end {
        let (offset, info) = (word(at)?, word(at + 4)?);
        let (kind, n) = ((info >> 24) & 31, info & 0xffff);
        let bytes = btf.get(strings + offset..)?;
        if kind == 12 && bytes.starts_with(name.as_bytes()) && bytes.get(name.len()) == Some(&0) {
            return Some(id);
        }
        // What follows the three words of each type, by its kind.
        at += 12
            + match kind {
                1 | 14 | 17 => 4,
                3 => 12,
                4 | 5 | 15 | 19 => n * 12,
                6 | 13 => n * 8,
                _ => 0,
            };
        id += 1;
    }
    None
}

/// An attached program with its map. Dropping it detaches.
#[derive(Debug)]
pub(super) struct Program {
    map: OwnedFd,
    _link: OwnedFd,
}

/// Words of union bpf_attr for PROG_LOAD, and flags.
const LOAD_FLAGS: usize = 11;
const LOAD_IFINDEX: usize = 16;
const LOAD_ATTACH_TYPE: usize = 17;
const DEV_BOUND_ONLY: u32 = 1 << 6;
/// The program takes frames of several buffers (Linux 5.18).
const HAS_FRAGS: u32 = 1 << 5;

impl Program {
    /// Loads and attaches the program to a device with `queues` receive queues.
    pub(super) fn attach(ifindex: u32, queues: u32, mode: Mode) -> io::Result<Self> {
        let map = bpf_fd(MAP_CREATE, &mut Attr::new().word(0, MAP_TYPE_XSKMAP).word(1, 4).word(2, 4).word(3, queues.max(1)))?;
        let tagging = match mode {
            Mode::Native => load_tagging(&map, ifindex),
            // Metadata is the drivers' business.
            Mode::Generic => None,
        };
        let program = match tagging {
            Some(program) => program,
            None => {
                let plain = redirect(map.as_raw_fd());
                load(&plain, Attr::new().word(LOAD_FLAGS, HAS_FRAGS)).or_else(|_| load(&plain, Attr::new()))?
            }
        };
        let attr = Attr::new().word(0, raw(&program)).word(1, ifindex).word(2, ATTACH_XDP);
        let link = bpf_fd(LINK_CREATE, &mut attr.word(3, mode as u32))?;
        Ok(Self { map, _link: link })
    }

    /// From now on frames of `queue` go to `socket`.
    pub(super) fn insert(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = socket.as_raw_fd();
        let attr = Attr::new().word(0, raw(&self.map)).long(2, address(&queue));
        bpf(MAP_UPDATE_ELEM, &mut attr.long(4, address(&value))).map(drop)
    }

    /// From now on frames of `queue` go to the kernel's stack.
    pub(super) fn remove(&self, queue: u32) -> io::Result<()> {
        let mut attr = Attr::new().word(0, raw(&self.map)).long(2, address(&queue));
        bpf(MAP_DELETE_ELEM, &mut attr).map(drop)
    }
}

fn load_tagging(map: &OwnedFd, ifindex: u32) -> Option<OwnedFd> {
    let btf = std::fs::read("/sys/kernel/btf/vmlinux").ok()?;
    let kfunc = kernel_function(&btf, "bpf_xdp_metadata_rx_vlan_tag")?;
    let attr = Attr::new().word(LOAD_FLAGS, DEV_BOUND_ONLY | HAS_FRAGS).word(LOAD_IFINDEX, ifindex);
    load(&untangle(map.as_raw_fd(), kfunc), attr.word(LOAD_ATTACH_TYPE, ATTACH_XDP)).ok()
}

fn load(code: &[u64], attr: Attr) -> io::Result<OwnedFd> {
    let count = u32::try_from(code.len()).expect("programs of ours are short");
    let license = *b"Dual BSD/GPL\0\0\0\0";
    let attr = attr.word(0, PROG_TYPE_XDP).word(1, count);
    let code: &u64 = code.first().ok_or(io::ErrorKind::InvalidInput)?;
    bpf_fd(PROG_LOAD, &mut attr.long(2, address(code)).long(4, address(&license)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_meet_their_targets() {
        let code = untangle(3, 4);
        let target = |i: usize| {
            let [_, _, low, high, ..] = code[i].to_ne_bytes();
            i + 1 + usize::try_from(i16::from_le_bytes([low, high])).unwrap()
        };
        let (redirect, drop) = (29, 35);
        assert_eq!((target(8), target(12), target(17)), (redirect, drop, drop));
        assert_eq!(code[redirect], instruction(0x61, 0x62, 16, 0));
        assert_eq!(code[drop], instruction(0xb7, 0x00, 0, 1));
    }

    #[test]
    fn cut_off_btf_is_no_panic() {
        assert_eq!(kernel_function(&[], "x"), None);
        let mut btf = vec![0u8; 80];
        btf[..2].copy_from_slice(&0xeb9f_u16.to_ne_bytes());
        for value in [0u8, 12, 200] {
            btf[4..24].fill(value);
            assert_eq!(kernel_function(&btf, "x"), None);
        }
    }
}
