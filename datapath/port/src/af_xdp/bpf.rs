//! The redirect program and its socket map: what the kernel has to know before frames reach our sockets.
//!
//! What enters: a device, sockets by queue. What leaves: descriptors that keep the program attached as long as they are open (a bpf link:
//! a killed daemon leaves no program behind). Neighbours: `af_xdp`.
//!
//! The program is six instructions, encoded here: "redirect to the socket of this receive queue; if there is none, pass on to the
//! kernel's stack". So frames are never lost while sockets come and go.

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
        let [low, high] = [value & 0xffff_ffff, value >> 32]
            .map(|half| u32::try_from(half).expect("half of a word"));
        let (first, second) = if cfg!(target_endian = "little") {
            (low, high)
        } else {
            (high, low)
        };
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
    u64::from_ne_bytes([
        code, registers, offset[0], offset[1], value[0], value[1], value[2], value[3],
    ])
}

/// The redirect program for a map.
fn redirect(map: RawFd) -> [u64; 6] {
    [
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

/// An attached program with its map. Dropping it detaches.
#[derive(Debug)]
pub(super) struct Program {
    map: OwnedFd,
    _link: OwnedFd,
}

impl Program {
    /// Loads and attaches the program to a device with `queues` receive queues.
    pub(super) fn attach(ifindex: u32, queues: u32, mode: Mode) -> io::Result<Self> {
        let map = bpf_fd(
            MAP_CREATE,
            &mut Attr::new()
                .word(0, MAP_TYPE_XSKMAP)
                .word(1, 4)
                .word(2, 4)
                .word(3, queues.max(1)),
        )?;
        let code = redirect(map.as_raw_fd());
        let count = u32::try_from(code.len()).expect("six");
        let license = *b"Apache-2.0\0\0\0\0\0\0";
        let mut load = Attr::new()
            .word(0, PROG_TYPE_XDP)
            .word(1, count)
            .long(2, address(&code))
            .long(4, address(&license));
        let program = bpf_fd(PROG_LOAD, &mut load)?;
        let mut attach = Attr::new()
            .word(0, raw(&program))
            .word(1, ifindex)
            .word(2, ATTACH_XDP)
            .word(3, mode as u32);
        let link = bpf_fd(LINK_CREATE, &mut attach)?;
        Ok(Self { map, _link: link })
    }

    /// From now on frames of `queue` go to `socket`.
    pub(super) fn insert(&self, queue: u32, socket: BorrowedFd<'_>) -> io::Result<()> {
        let value = socket.as_raw_fd();
        let mut attr = Attr::new()
            .word(0, raw(&self.map))
            .long(2, address(&queue))
            .long(4, address(&value));
        bpf(MAP_UPDATE_ELEM, &mut attr).map(drop)
    }

    /// From now on frames of `queue` go to the kernel's stack.
    pub(super) fn remove(&self, queue: u32) -> io::Result<()> {
        let mut attr = Attr::new().word(0, raw(&self.map)).long(2, address(&queue));
        bpf(MAP_DELETE_ELEM, &mut attr).map(drop)
    }
}
