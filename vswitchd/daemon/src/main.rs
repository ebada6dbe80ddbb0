//! `ovs-vswitchd`: the program. Everything is in the library, so that tests can reach it.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Keys are aligned to cache lines, and packets that miss are made on one thread and freed on another: both are what the C library's
/// allocator is slowest at (docs/decisions/0012).
#[global_allocator]
static ALLOCATOR: datapath::heap::Heap<mimalloc::MiMalloc> = datapath::heap::Heap(mimalloc::MiMalloc);

fn main() -> ExitCode {
    vswitchd::start::main()
}
