//! How many packets a second the memory port moves on one core: `memory_rate FILE.pcap [SECONDS]`; without a file, 60-byte frames.

use port::{Batch, Device, PortConfig, Receive, Transmit};
use std::error::Error;

#[allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a measuring program prints and reads the clock")]
fn main() -> Result<(), Box<dyn Error>> {
    let made = std::env::temp_dir().join(format!("memory-rate-{}.pcap", std::process::id()));
    let path = match std::env::args().nth(1) {
        Some(path) if path != "-" => path.into(),
        _ => {
            let mut writer = port::pcap::Writer::create(&made)?;
            for i in 0..1000u32 {
                writer.write(0, &[i.to_le_bytes(); 15].concat())?;
            }
            made.clone()
        }
    };
    let seconds: f64 = std::env::args().nth(2).map_or(Ok(2.0), |s| s.parse())?;
    let config = PortConfig::new("m0", "memory")?.with("pcap", &path.to_string_lossy());
    let mut device = Device::open(&config)?;
    let _ = std::fs::remove_file(&made);
    let mut rx = device.take_rx().remove(0);
    let mut tx = device.tx()?;
    let mut batch = Batch::new();
    let start = std::time::Instant::now();
    let mut sum = 0u64;
    while start.elapsed().as_secs_f64() < seconds {
        for _ in 0..4096 {
            rx.recv(&mut batch);
            for packet in batch.iter() {
                sum = sum.wrapping_add(u64::from(packet.data()[0]));
            }
            tx.send(&mut batch);
        }
    }
    let taken = start.elapsed().as_secs_f64();
    #[allow(clippy::cast_precision_loss, reason = "a rate needs no 53 bits")]
    let rate = device.stats()?.rx_packets as f64 / taken / 1e6;
    println!("{rate:.1} Mpps, {:.2} ns per packet (check {sum})", 1000.0 / rate);
    Ok(())
}
