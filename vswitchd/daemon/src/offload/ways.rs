//! How the kernel sends to the other ends of tunnels: the driver asks it for the outer Ethernet header, and rules are only right if that is the
//! one that the slow path has put into the megaflow.
//!
//! What enters: ends that the tier wants, devices. What leaves: the addresses for each that the kernel knows, followed as they change. A
//! neighbour that it does not know is asked for. Neighbours: `netlink`; `offload::plan::outer` compares.

use super::backend::Backend;
use super::netlink::{Message, Requests, messages};
use flow::hash::Map;
use offload::tc::attributes::{Attribute, Writer, attributes, find};
use offload::tc::client::Netlink as _;
use offload::{Ends, Way};
use port::netlink::Link;
use std::net::IpAddr;

const RTM_NEWROUTE: u16 = 24;
const RTM_GETROUTE: u16 = 26;
const RTM_NEWNEIGH: u16 = 28;
const RTM_GETNEIGH: u16 = 30;
const NLM_F_CREATE: u16 = 0x400;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const RTN_UNICAST: u8 = 1;
const RTA_DST: u16 = 1;
const RTA_SRC: u16 = 2;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_VIA: u16 = 18;
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
/// Reachable, stale, delayed, probed, without ARP, permanent: a state with an address.
const NUD_VALID: u16 = 0x02 | 0x04 | 0x08 | 0x10 | 0x40 | 0x80;
/// The kernel is to find the neighbour out.
const NTF_USE: u8 = 1;
/// Ends that are asked about in one turn, and of those how many that are known already.
const ASKED_MAX: usize = 256;
const AGAIN_MAX: usize = 128;
/// Requests of one message to the socket.
const BATCH: usize = 64;

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Ways {
    known: Map<Ends, Option<Way>>,
    /// Where the next turn goes on.
    next: usize,
}

/// A next hop: device, address.
type Hop = (u32, IpAddr);

impl Ways {
    /// Asks about some of the ends, new ones first. What is known of all of them afterwards.
    pub(super) fn follow(&mut self, backend: &Backend, wanted: &[Ends], links: &[Link]) -> Map<Ends, Way> {
        self.known.retain(|ends, _| wanted.binary_search(ends).is_ok());
        let new = wanted.iter().filter(|ends| !self.known.contains_key(*ends)).take(ASKED_MAX);
        let mut asked: Vec<Ends> = new.copied().collect();
        let again = wanted.iter().cycle().skip(self.next).take(wanted.len().min(AGAIN_MAX));
        asked.extend(again.filter(|ends| self.known.contains_key(*ends)));
        self.next = (self.next + AGAIN_MAX) % wanted.len().max(1);
        for some in asked.chunks(BATCH) {
            let hops = hops(backend, some);
            let addresses = neighbours(backend, &hops);
            for (ends, hop) in some.iter().zip(hops) {
                let way = hop.and_then(|hop| {
                    let src_mac = links.iter().find(|l| l.ifindex == hop.0)?.mac?;
                    Some(Way { src_mac, dst_mac: *addresses.get(&hop)? })
                });
                self.known.insert(*ends, way);
            }
        }
        self.known.iter().filter_map(|(ends, way)| Some((*ends, (*way)?))).collect()
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    }
}

const fn family(address: IpAddr) -> (u8, u8) {
    if address.is_ipv4() { (AF_INET, 32) } else { (AF_INET6, 128) }
}

fn address(a: Attribute<'_>) -> Option<IpAddr> {
    a.payload.try_into().map(|a: [u8; 4]| a.into()).ok().or_else(|| a.payload.try_into().map(|a: [u8; 16]| a.into()).ok())
}

/// The next hop to each end, as `ip route get` tells it.
fn hops(backend: &Backend, ends: &[Ends]) -> Vec<Option<Hop>> {
    let mut requests = Requests::default();
    for Ends { src, dst } in ends {
        let (family, bits) = family(*dst);
        let fixed = [family, bits, bits, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        requests.add(RTM_GETROUTE, 0, &fixed, |out| {
            out.put(RTA_DST, &octets(*dst));
            out.put(RTA_SRC, &octets(*src));
        });
    }
    let mut out = vec![None; ends.len()];
    let Ok(bytes) = backend.talk(&requests.out.bytes) else { return out };
    for message in messages(&bytes).filter(|m| m.kind == RTM_NEWROUTE) {
        let at = (message.sequence as usize).wrapping_sub(1);
        if let (Some(slot), Some(ends)) = (out.get_mut(at), ends.get(at)) {
            *slot = hop(&message, ends.dst);
        }
    }
    out
}

fn hop(message: &Message<'_>, dst: IpAddr) -> Option<Hop> {
    let is_unicast = *message.body.get(7)? == RTN_UNICAST;
    let list = attributes(message.body.get(12..)?).ok()?;
    // A next hop of the other family is no neighbour that we would ask for in the right way.
    if !is_unicast || find(&list, RTA_VIA).is_some() {
        return None;
    }
    let gateway = find(&list, RTA_GATEWAY).map(address);
    let next = gateway.unwrap_or(Some(dst))?;
    Some((find(&list, RTA_OIF)?.u32().ok()?, next))
}

/// The Ethernet addresses of next hops, where the kernel has them.
fn neighbours(backend: &Backend, hops: &[Option<Hop>]) -> Map<Hop, [u8; 6]> {
    let mut asked: Vec<Hop> = hops.iter().flatten().copied().collect();
    asked.sort_unstable();
    asked.dedup();
    let mut requests = Requests::default();
    for hop in &asked {
        requests.add(RTM_GETNEIGH, 0, &ndmsg(*hop, 0), |out| destination(out, *hop));
    }
    let mut out = Map::default();
    if requests.is_empty() {
        return out;
    }
    let Ok(bytes) = backend.talk(&requests.out.bytes) else { return out };
    for message in messages(&bytes).filter(|m| m.kind == RTM_NEWNEIGH) {
        if let (Some(hop), Some(mac)) = (asked.get((message.sequence as usize).wrapping_sub(1)), mac(&message)) {
            out.insert(*hop, mac);
        }
    }
    let mut requests = Requests::default();
    for hop in asked.iter().filter(|hop| !out.contains_key(*hop)) {
        requests.add(RTM_NEWNEIGH, NLM_F_CREATE, &ndmsg(*hop, NTF_USE), |out| destination(out, *hop));
    }
    if !requests.is_empty() {
        // Its answer is the neighbour's, in a later turn.
        let _ = backend.talk(&requests.out.bytes);
    }
    out
}

/// `struct ndmsg`
fn ndmsg((ifindex, next): Hop, flags: u8) -> [u8; 12] {
    let [a, b, c, d] = ifindex.to_ne_bytes();
    [family(next).0, 0, 0, 0, a, b, c, d, 0, 0, flags, 0]
}

fn destination(out: &mut Writer, (_, next): Hop) {
    out.put(NDA_DST, &octets(next));
}

fn mac(message: &Message<'_>) -> Option<[u8; 6]> {
    let state = u16::from_ne_bytes(*message.body.get(8..)?.first_chunk()?);
    let list = attributes(message.body.get(12..)?).ok()?;
    find(&list, NDA_LLADDR)?.array().ok().filter(|_| state & NUD_VALID != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(kind: u16, fixed: &[u8], write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut requests = Requests::default();
        requests.add(kind, 0, fixed, write);
        requests.out.bytes
    }

    #[test]
    fn answers_of_the_kernel() {
        let dst: IpAddr = "10.8.0.2".parse().expect("an address");
        let route = |kind: u8, gateway: Option<[u8; 4]>| {
            let fixed = [AF_INET, 32, 0, 0, 0, 0, 0, kind, 0, 0, 0, 0];
            let bytes = read(RTM_NEWROUTE, &fixed, |out| {
                out.put_u32(RTA_OIF, 7);
                if let Some(gateway) = gateway {
                    out.put(RTA_GATEWAY, &gateway);
                }
            });
            messages(&bytes).next().and_then(|m| hop(&m, dst))
        };
        assert_eq!(route(RTN_UNICAST, None), Some((7, dst)));
        assert_eq!(route(RTN_UNICAST, Some([10, 8, 0, 254])), Some((7, "10.8.0.254".parse().expect("an address"))));
        assert_eq!(route(2, None), None, "ourselves");
        let neighbour = |state: u16| {
            let [a, b] = state.to_ne_bytes();
            let bytes = read(RTM_NEWNEIGH, &[AF_INET, 0, 0, 0, 7, 0, 0, 0, a, b, 0, 0], |out| out.put(NDA_LLADDR, &[2; 6]));
            messages(&bytes).next().and_then(|m| mac(&m))
        };
        assert_eq!(
            (neighbour(0x02), neighbour(0x20), neighbour(0x01)),
            (Some([2; 6]), None, None),
            "reachable, failed, incomplete"
        );
    }

    /// Without a kernel nothing is known, and nothing but what is wanted is kept.
    #[test]
    fn what_is_not_answered_is_not_known() {
        let ends = |n: u8| Ends { src: IpAddr::from([10, 8, 0, 1]), dst: IpAddr::from([10, 8, 0, n]) };
        let mut ways = Ways::default();
        let wanted: Vec<Ends> = (2..8).map(ends).collect();
        assert!(ways.follow(&Backend::default(), &wanted, &[]).is_empty());
        assert_eq!(ways.known.len(), 6);
        ways.follow(&Backend::default(), &wanted[..2], &[]);
        assert_eq!(ways.known.len(), 2);
    }
}
