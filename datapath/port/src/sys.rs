//! The few system calls that neither std nor nix have in a safe form, each wrapped once.
//!
//! What enters: typed arguments. What leaves: io::Result. Neighbours: everything in this crate that talks to the kernel.

use crate::batch::BATCH_MAX;
use crate::packet::Packet;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::OnceLock;

/// A zeroed struct ifreq for a device.
pub(crate) fn ifreq(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: ifreq is plain data, for which all zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes.len() >= request.ifr_name.len() || bytes.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    Ok(request)
}

/// Turns a system call's -1 into the error.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// SIOCGSKNS: the network namespace that a socket belongs to. Asks for CAP_NET_ADMIN there.
pub(crate) fn namespace_of(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    const SIOCGSKNS: libc::Ioctl = 0x894c;
    // SAFETY: SIOCGSKNS takes no argument and returns a new descriptor.
    let fd = check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCGSKNS) })?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What tells a file from all others: its device and inode.
pub(crate) fn identity(fd: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = nix::sys::stat::fstat(fd)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The present name of a tap's netdev; EBADFD if it has been deleted.
pub(crate) fn tap_name(tap: &File) -> io::Result<String> {
    // SAFETY: ifreq is plain data, for which all zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: TUNGETIFF writes an ifreq.
    check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNGETIFF, &raw mut request) })?;
    let name = request.ifr_name.iter().take_while(|byte| **byte != 0).map(|byte| byte.cast_unsigned());
    String::from_utf8(name.collect()).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// The network namespace in which a tap's netdev is. Since Linux 5.2.
pub(crate) fn tap_namespace(tap: &File) -> io::Result<OwnedFd> {
    // SAFETY: TUNGETDEVNETNS takes no argument and returns a new descriptor.
    let fd = check(unsafe { libc::ioctl(tap.as_raw_fd(), libc::TUNGETDEVNETNS) })?;
    // SAFETY: the descriptor is new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// setsockopt with a plain value.
pub(crate) fn set_option<T: Copy>(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let len = libc::socklen_t::try_from(size_of::<T>()).expect("socket options are small");
    let value: *const T = value;
    // SAFETY: `value` points to `len` readable bytes for the time of the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.cast(), len) }).map(drop)
}

/// SO_ATTACH_FILTER: the kernel keeps from the socket what the program (of classic BPF) drops.
pub(crate) fn attach_filter(fd: BorrowedFd<'_>, program: &[libc::sock_filter]) -> io::Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // The kernel copies the program and does not write to it.
    let all = libc::sock_fprog { len, filter: program.as_ptr().cast_mut() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).expect("two words");
    // SAFETY: `all` is a sock_fprog that names `len` instructions, which live as long as the call.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, (&raw const all).cast(), size) })
        .map(drop)
}

/// getsockopt of a plain value; how many bytes the kernel filled.
pub(crate) fn option<T: Copy>(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &mut T) -> io::Result<usize> {
    let mut len = libc::socklen_t::try_from(size_of::<T>()).expect("socket options are small");
    let value: *mut T = value;
    // SAFETY: `value` points to `len` writable bytes; every T used here is made of integers, valid for any bytes.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, value.cast(), &raw mut len) })?;
    Ok(len as usize)
}

/// The pending error of a socket, cleared by asking.
pub(crate) fn take_error(fd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut error: libc::c_int = 0;
    option(fd, libc::SOL_SOCKET, libc::SO_ERROR, &mut error)?;
    Ok((error != 0).then_some(error))
}

/// A shared mapping of a descriptor's memory; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping is memory like any other; who reads and writes it through pointers has to synchronise.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `len` bytes of `fd` at `offset`, readable and writable, populated at once.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, protection, flags, fd.as_raw_fd(), offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(io::Error::last_os_error)?;
        Ok(Self { base, len })
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and is used by nobody after its owner is dropped.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// recvmsg into several buffers, without blocking; the frame's whole length, also if the buffers were too small (MSG_TRUNC).
pub(crate) fn recv_vectored(fd: BorrowedFd<'_>, parts: &mut [io::IoSliceMut<'_>]) -> io::Result<usize> {
    let mut message = empty_message();
    message.msg_iov = parts.as_mut_ptr().cast();
    message.msg_iovlen = parts.len() as _;
    // SAFETY: IoSliceMut is guaranteed to have iovec's layout, and the buffers stay borrowed for the time of the call.
    let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, libc::MSG_DONTWAIT | libc::MSG_TRUNC) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// Option and control message of netlink sockets that hear of other namespaces, too (linux/netlink.h).
pub(crate) const NETLINK_LISTEN_ALL_NSID: libc::c_int = 8;

/// recvmsg from a netlink socket: how many bytes, and the id of the namespace that they are from, if it is another one (and the socket listens to those).
pub(crate) fn recv_told(fd: BorrowedFd<'_>, bytes: &mut [u8]) -> io::Result<(usize, Option<i32>)> {
    // Room for one control message of an int, aligned as its header has to be.
    let mut control = [0u64; 8];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut message = empty_message();
    (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
    (message.msg_control, message.msg_controllen) = (control.as_mut_ptr().cast(), size_of_val(&control) as _);
    // SAFETY: the buffers outlive the call, and their lengths are theirs.
    let n = unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, 0) };
    let n = usize::try_from(n).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: the kernel has filled `message`.
    let head = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: it is none, or a header inside of `control`, as much of which is filled as it says.
    let head = unsafe { head.as_ref() };
    let told = head.filter(|head| head.cmsg_level == libc::SOL_NETLINK && head.cmsg_type == NETLINK_LISTEN_ALL_NSID);
    let nsid = told.map(|head| {
        // SAFETY: the header is that of a whole message.
        let data = unsafe { libc::CMSG_DATA(head) };
        // SAFETY: the data of this message is an int.
        unsafe { data.cast::<libc::c_int>().read_unaligned() }
    });
    Ok((n, nsid))
}

fn empty_message() -> libc::msghdr {
    // SAFETY: msghdr is plain data, for which all zeros (no name, no buffers, no control data) is valid.
    unsafe { std::mem::zeroed() }
}

/// sendmsg of one packet after its header: less work than a call for many is, above all where nothing of it is in the caches.
pub(crate) fn send_one(fd: BorrowedFd<'_>, header: &[u8], packet: &Packet) -> io::Result<()> {
    let mut parts = [
        libc::iovec { iov_base: header.as_ptr().cast_mut().cast(), iov_len: header.len() },
        libc::iovec { iov_base: packet.as_ptr().cast(), iov_len: packet.len() },
    ];
    let mut message = empty_message();
    message.msg_iov = parts.as_mut_ptr();
    message.msg_iovlen = parts.len() as _;
    // SAFETY: the message points to two parts, which point to bytes that are borrowed for the time of the call and only read by it.
    check_len(unsafe { libc::sendmsg(fd.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT) })
}

fn check_len(len: isize) -> io::Result<()> {
    if len < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// sendmmsg of packets, each after its header; how many were sent (at least one). At most [`BATCH_MAX`].
pub(crate) fn send_many<const N: usize>(fd: BorrowedFd<'_>, headers: &[[u8; N]], packets: &[Packet]) -> io::Result<usize> {
    const NOTHING: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let n = packets.len().min(headers.len()).min(BATCH_MAX);
    let mut parts = [[NOTHING; 2]; BATCH_MAX];
    let mut messages = [libc::mmsghdr { msg_hdr: empty_message(), msg_len: 0 }; BATCH_MAX];
    for (i, (header, packet)) in headers.iter().zip(packets).take(n).enumerate() {
        let first = libc::iovec { iov_base: header.as_ptr().cast_mut().cast(), iov_len: N };
        let second = libc::iovec { iov_base: packet.as_ptr().cast(), iov_len: packet.len() };
        parts[i] = [first, second];
        messages[i].msg_hdr.msg_iov = parts[i].as_mut_ptr();
        messages[i].msg_hdr.msg_iovlen = 2;
    }
    let count = libc::c_uint::try_from(n).expect("at most a batch");
    // SAFETY: each of the first `count` messages points to two parts in `parts`, which point to bytes that are borrowed for the
    // time of the call and only read by it.
    let sent = unsafe { libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Whether packet sockets and taps take UDP frames to be segmented (VIRTIO_NET_HDR_GSO_UDP_L4; Linux 6.2).
pub(crate) fn kernel_takes_uso() -> bool {
    static TAKES: OnceLock<bool> = OnceLock::new();
    *TAKES.get_or_init(|| {
        let Ok(names) = nix::sys::utsname::uname() else {
            return false;
        };
        let release = names.release().to_string_lossy();
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
        (numbers.next().unwrap_or(0u32), numbers.next().unwrap_or(0u32)) >= (6, 2)
    })
}

/// Returns when every softirq that ran at the time of the call has ended: the kernel implements this command by synchronize_rcu.
pub(crate) fn wait_for_softirqs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the command takes no pointers.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 {
        // A kernel without it: far longer than any softirq takes.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// socket() for families that nix does not know, closed on exec.
pub(crate) fn open_socket(family: libc::c_int, kind: libc::c_int) -> io::Result<OwnedFd> {
    open_protocol_socket(family, kind, 0)
}

/// The same with a protocol.
pub(crate) fn open_protocol_socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: the call takes no pointers.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the kernel has just opened this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// bind() to a socket address in its bytes.
pub(crate) fn bind_bytes(fd: BorrowedFd<'_>, address: &[u8]) -> io::Result<()> {
    let len = libc::socklen_t::try_from(address.len()).expect("addresses are small");
    // SAFETY: `address` has `len` readable bytes for the time of the call, which copies them.
    check(unsafe { libc::bind(fd.as_raw_fd(), address.as_ptr().cast(), len) }).map(drop)
}

/// The MTU that the kernel knows of the way to an address, given in the bytes of a socket address.
pub(crate) fn path_mtu(family: libc::c_int, address: &[u8]) -> io::Result<u32> {
    let fd = open_protocol_socket(family, libc::SOCK_DGRAM, 0)?;
    let len = libc::socklen_t::try_from(address.len()).expect("addresses are small");
    // SAFETY: `address` has `len` readable bytes for the time of the call, which copies them.
    check(unsafe { libc::connect(fd.as_raw_fd(), address.as_ptr().cast(), len) })?;
    let (level, name) =
        if family == libc::AF_INET { (libc::IPPROTO_IP, libc::IP_MTU) } else { (libc::IPPROTO_IPV6, libc::IPV6_MTU) };
    let mut mtu: libc::c_int = 0;
    option(fd.as_fd(), level, name, &mut mtu)?;
    Ok(mtu.cast_unsigned())
}

/// The MTU of a device, in the network namespace of a socket.
pub(crate) fn mtu_of(fd: BorrowedFd<'_>, ifindex: u32) -> io::Result<u32> {
    // SAFETY: ifreq is plain data, for which all zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_ifru.ifru_ifindex = ifindex.cast_signed();
    // SAFETY: SIOCGIFNAME reads the index and writes the name of a valid ifreq.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFNAME, &raw mut request) })?;
    // SAFETY: SIOCGIFMTU reads the name and writes the MTU of a valid ifreq.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) })?;
    // SAFETY: the kernel has just written this member.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(mtu.cast_unsigned())
}
