//! Connection tracking: ct, ct_clear, and matching on a connection's original tuple.

use super::trace::{Forked, Kind};
use super::{Ctx, freeze};
use flow::action::{Action, Ct, Nat};
use flow::key::Key;
use openflow::TableId;
use openflow::action::{CtAction, NatAction, OfAction};

const ETH_IPV4: [u8; 2] = [0x08, 0x00];
const ETH_IPV6: [u8; 2] = [0x86, 0xdd];
const PORT_FTP: u16 = 21;
const PORT_TFTP: u16 = 69;

impl Ctx<'_> {
    /// ct(...)
    pub(super) fn conntrack(&mut self, ct: &CtAction) {
        let zone = match ct.zone_src {
            Some(src) => u16::try_from(self.read(src) & 0xffff).expect("masked to 16 bits"),
            None => ct.zone_imm,
        };
        self.commit();
        // exec(...) sets mark and label of the connection; the mask says which of their bits.
        let outer = (self.mask.ct_mark, self.mask.ct_label);
        (self.mask.ct_mark, self.mask.ct_label) = ([0; 4], [0; 16]);
        self.run_actions(&ct.actions, false);
        let mark = masked(u32::from_be_bytes(self.key.ct_mark), u32::from_be_bytes(self.mask.ct_mark));
        let label = (u128::from_be_bytes(self.key.ct_label), u128::from_be_bytes(self.mask.ct_label));
        (self.mask.ct_mark, self.mask.ct_label) = outer;
        // Of several the last counts, as in OVS.
        let nat = ct.actions.iter().rev().find_map(|a| if let OfAction::Nat(nat) = a { Some(&**nat) } else { None });
        let helper = self.helper(ct.alg);
        self.emit(Action::Ct(Box::new(Ct {
            commit: ct.commit && !ct.force,
            force: ct.commit && ct.force,
            zone,
            mark,
            label: (label.1 != 0).then_some((label.0 & label.1, label.1)),
            helper,
            timeout: if ct.commit { self.timeout_policy(zone) } else { None },
            nat: nat.map(nat_of),
            event_mask: None,
        })));
        if let Some(table) = ct.table {
            self.conntracked = true;
            self.fork_tracked(table, zone, nat);
        }
        // Only what goes on in `table` sees what conntrack has said.
        freeze::forget_connection(&mut self.key);
        self.report(Kind::Detail, format_args!("Sets the packet to an untracked state, and clears all the conntrack fields."));
        self.conntracked = false;
    }

    fn helper(&mut self, alg: u16) -> Option<String> {
        match alg {
            0 => None,
            PORT_FTP => Some("ftp".to_owned()),
            PORT_TFTP => Some("tftp".to_owned()),
            _ => {
                self.report_error(format_args!("cannot serialize ct_helper {alg}"));
                None
            }
        }
    }

    /// The zone's timeout policy, by its number.
    fn timeout_policy(&self, zone: u16) -> Option<String> {
        let backend = self.world.backend(self.origin)?;
        backend.tracking.zones.get(&zone).map(u32::to_string)
    }

    fn fork_tracked(&mut self, table: TableId, zone: u16, nat: Option<&NatAction>) {
        let Some(id) = self.fork_into(table) else { return };
        let key = Key { recirc_id: id.to_be_bytes(), ct_zone: zone.to_be_bytes(), ..self.key };
        let Some(trace) = &mut self.trace else { return };
        trace.forked.push(Forked { key: Box::new(key), recirc_id: id, nat: nat.cloned() });
        let table = table.0;
        self.report(
            Kind::Detail,
            format_args!("A clone of the packet is forked to recirculate. The forked pipeline will be resumed at table {table}."),
        );
    }

    pub(super) fn conntrack_clear(&mut self) {
        if self.conntracked {
            self.conntracked = false;
            freeze::forget_connection(&mut self.key);
            self.emit(Action::CtClear);
        }
    }

    /// Whether there is an original tuple to match on.
    pub(super) fn has_connection_tuple(&mut self) -> bool {
        let ip = matches!(self.key.eth_type, ETH_IPV4 | ETH_IPV6);
        self.mask.ct_nw_proto = 0xff;
        if self.key.ct_nw_proto == 0 || !ip {
            self.report_error(format_args!("resubmit(ct) with non-tracked or non-IP packet!"));
            return false;
        }
        true
    }

    /// Puts the original tuple of the connection in the place of the packet's addresses; the same call takes it back.
    pub(super) fn swap_connection_tuple(&mut self) {
        let ipv4 = self.key.eth_type == ETH_IPV4;
        swap_tuple(&mut self.key, ipv4);
        swap_tuple(&mut self.mask, ipv4);
    }
}

fn masked(value: u32, mask: u32) -> Option<(u32, u32)> {
    (mask != 0).then_some((value & mask, mask))
}

fn swap_tuple(k: &mut Key, ipv4: bool) {
    std::mem::swap(&mut k.nw_proto, &mut k.ct_nw_proto);
    if ipv4 {
        std::mem::swap(&mut k.nw_src, &mut k.ct_nw_src);
        std::mem::swap(&mut k.nw_dst, &mut k.ct_nw_dst);
    } else {
        std::mem::swap(&mut k.ipv6_src, &mut k.ct_ipv6_src);
        std::mem::swap(&mut k.ipv6_dst, &mut k.ct_ipv6_dst);
    }
    std::mem::swap(&mut k.tp_src, &mut k.ct_tp_src);
    std::mem::swap(&mut k.tp_dst, &mut k.ct_tp_dst);
}

fn nat_of(nat: &NatAction) -> Nat {
    let (src, dst) = (nat.flags & 1 != 0, nat.flags & 2 != 0);
    if !src && !dst {
        return Nat::default();
    }
    let hash = nat.flags & 8 != 0;
    Nat {
        src,
        dst: dst && !src,
        persistent: nat.flags & 4 != 0,
        hash,
        random: nat.flags & 16 != 0 && !hash,
        addr: nat.addr.map(|(min, max)| (min, max.map_or(min, |max| max.max(min)))),
        ports: nat
            .ports
            .filter(|_| nat.addr.is_some())
            .filter(|(min, _)| *min != 0)
            .map(|(min, max)| (min, max.map_or(min, |m| m.max(min)))),
    }
}
