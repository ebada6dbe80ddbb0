//! Classic pcap files: read whole, written frame by frame.
//!
//! What enters: files of other people (so every length is checked) and frames to record. What leaves: frames, and files that tcpdump
//! reads. Neighbours: `memory` (replay) and `dummy` (replay and record). Format: the libpcap savefile, versions 2.4 in either byte
//! order, with microseconds or nanoseconds; link type Ethernet. pcapng is refused by name.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

/// The most bytes of a file that are read, so that a wrong path cannot eat the memory.
pub const FILE_MAX: u64 = 1 << 30;

const MAGIC_US: u32 = 0xa1b2_c3d4;
const MAGIC_NS: u32 = 0xa1b2_3c4d;
const MAGIC_NG: u32 = 0x0a0d_0d0a;
const LINK_ETHERNET: u32 = 1;
const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// Why a file is no use.
#[derive(Debug, thiserror::Error)]
pub enum PcapError {
    /// It could not be read or written.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Its first bytes are none of ours.
    #[error("not a pcap file (magic {0:#010x})")]
    Magic(u32),
    /// It is a pcapng file.
    #[error("a pcapng file, not a classic pcap file (editcap -F pcap converts it)")]
    Pcapng,
    /// It holds another link layer than Ethernet.
    #[error("link type {0} instead of 1 (Ethernet)")]
    LinkType(u32),
    /// It ends within a record.
    #[error("truncated at byte {0}")]
    Truncated(usize),
    /// It is larger than [`FILE_MAX`].
    #[error("larger than {FILE_MAX} bytes")]
    TooLarge,
}

/// The frames of a pcap file.
pub fn read(path: &Path) -> Result<Vec<Vec<u8>>, PcapError> {
    Records::of(&bytes_of(path)?)?.map(|record| record.map(|r| r.frame.to_vec())).collect()
}

/// What a pcap file holds, for `Records`.
pub fn bytes_of(path: &Path) -> Result<Vec<u8>, PcapError> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_MAX { Err(PcapError::TooLarge) } else { Ok(bytes) }
}

/// A frame and when it was recorded, since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    pub time: Duration,
    pub frame: &'a [u8],
}

/// The records in a pcap file's bytes. An error is the last item.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    swapped: bool,
    /// Nanoseconds of a unit of the times' fractions.
    unit: u64,
}

impl<'a> Records<'a> {
    /// Reads the file's header.
    pub fn of(bytes: &'a [u8]) -> Result<Self, PcapError> {
        let header: &[u8; FILE_HEADER] = bytes.first_chunk().ok_or(PcapError::Truncated(bytes.len()))?;
        let magic = word(header, 0, false);
        let (swapped, unit) = match magic {
            MAGIC_US => (false, 1000),
            MAGIC_NS => (false, 1),
            MAGIC_NG => return Err(PcapError::Pcapng),
            _ if magic.swap_bytes() == MAGIC_US => (true, 1000),
            _ if magic.swap_bytes() == MAGIC_NS => (true, 1),
            _ => return Err(PcapError::Magic(magic)),
        };
        // The upper bits tell about an FCS and are no part of the type.
        let link = word(header, 20, swapped) & 0x0fff_ffff;
        if link != LINK_ETHERNET {
            return Err(PcapError::LinkType(link));
        }
        Ok(Self { bytes, at: FILE_HEADER, swapped, unit })
    }

    fn record(&self) -> Result<Record<'a>, PcapError> {
        let cut = || PcapError::Truncated(self.at);
        let record = self.bytes.get(self.at..self.at + RECORD_HEADER).ok_or_else(cut)?;
        let [seconds, fraction, length] = [0, 4, 8].map(|at| word(record, at, self.swapped));
        let time = Duration::from_secs(seconds.into()) + Duration::from_nanos(u64::from(fraction) * self.unit);
        let start = self.at + RECORD_HEADER;
        let end = start.checked_add(length as usize).ok_or_else(cut)?;
        Ok(Record { time, frame: self.bytes.get(start..end).ok_or_else(cut)? })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, PcapError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let record = self.record();
        self.at = record.as_ref().map_or(self.bytes.len(), |r| self.at + RECORD_HEADER + r.frame.len());
        Some(record)
    }
}

fn word(bytes: &[u8], at: usize, swapped: bool) -> u32 {
    let bytes = bytes[at..at + 4].try_into().expect("a range of four bytes");
    let word = u32::from_le_bytes(bytes);
    if swapped { word.swap_bytes() } else { word }
}

/// Writes frames to a file as they come.
#[derive(Debug)]
pub struct Writer<W: Write> {
    out: W,
}

impl Writer<File> {
    /// Makes (or empties) the file and writes its header.
    pub fn create(path: &Path) -> Result<Self, PcapError> {
        Self::new(File::create(path)?)
    }
}

impl Writer<File> {
    /// Opens the file for appending; writes its header if it is new or empty.
    pub fn append(path: &Path) -> Result<Self, PcapError> {
        let out = File::options().append(true).create(true).open(path)?;
        if out.metadata()?.len() == 0 { Self::new(out) } else { Ok(Self { out }) }
    }
}

impl<W: Write> Writer<W> {
    /// Writes the file header to `out`.
    pub fn new(mut out: W) -> Result<Self, PcapError> {
        let mut header = Vec::with_capacity(FILE_HEADER);
        header.extend_from_slice(&MAGIC_US.to_le_bytes());
        header.extend_from_slice(&2u16.to_le_bytes());
        header.extend_from_slice(&4u16.to_le_bytes());
        header.extend_from_slice(&[0; 8]);
        header.extend_from_slice(&0x4_0000u32.to_le_bytes());
        header.extend_from_slice(&LINK_ETHERNET.to_le_bytes());
        out.write_all(&header)?;
        Ok(Self { out })
    }

    /// Appends one frame that was seen `time_us` microseconds after the epoch, in one write, so that a reader of the growing file
    /// sees whole records.
    pub fn write(&mut self, time_us: u64, frame: &[u8]) -> Result<(), PcapError> {
        let seconds = u32::try_from(time_us / 1_000_000).unwrap_or(u32::MAX);
        let micros = u32::try_from(time_us % 1_000_000).expect("less than a million");
        let len = u32::try_from(frame.len()).map_err(|_| PcapError::TooLarge)?;
        let mut record = Vec::with_capacity(RECORD_HEADER + frame.len());
        for word in [seconds, micros, len, len] {
            record.extend_from_slice(&word.to_le_bytes());
        }
        record.extend_from_slice(frame);
        self.out.write_all(&record)?;
        self.out.flush()?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Vec<Record<'_>>, PcapError> {
        Records::of(bytes)?.collect()
    }

    proptest! {
        #[test]
        fn frames_survive_a_file(frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes).unwrap();
            for frame in &frames {
                writer.write(1_700_000_000_123_456, frame).unwrap();
            }
            let time = Duration::from_micros(1_700_000_000_123_456);
            let records: Vec<_> = frames.iter().map(|frame| Record { time, frame }).collect();
            prop_assert_eq!(parse(&bytes).unwrap(), records);
            // Of a file that is cut short, what is whole comes first.
            bytes.pop();
            let cut = Records::of(&bytes).map_or(0, |records| records.filter(Result::is_ok).count());
            prop_assert_eq!(cut, frames.len().saturating_sub(1));
        }

        #[test]
        fn any_bytes_are_no_panic(mut bytes in prop::collection::vec(any::<u8>(), 0..200), real in any::<bool>()) {
            if real && bytes.len() > FILE_HEADER {
                bytes[..4].copy_from_slice(&MAGIC_NS.to_be_bytes());
                bytes[20..24].copy_from_slice(&1u32.to_be_bytes());
            }
            let _ = parse(&bytes);
        }
    }

    #[test]
    fn faults_have_names() {
        let cases: [(&[u8], &str); 3] = [
            (&[0; 24], "not a pcap file (magic 0x00000000)"),
            (&[0; 3], "truncated at byte 3"),
            (&[0x0a, 0x0d, 0x0d, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "a pcapng file"),
        ];
        for (bytes, expect) in cases {
            assert!(parse(bytes).unwrap_err().to_string().starts_with(expect));
        }
    }
}
