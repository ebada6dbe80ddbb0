//! The table of match fields: one row per field of OVS 3.7 (211) and OpenFlow's three that OVS does not have, families expanded by their own macro.
//!
//! Everything the project knows about a field stands in its row; text, OXM, datapath and tc-flower forms loop over these rows.
//! A column that is forgotten does not compile, and neither does a bit of `Key` that no row names.
//! Neighbours: `fields` (what the columns mean), `key` (where the bits lie).
// tidy: long because it is a table.

use super::def::{Class, Code, Def, DpAttr, Express, Flower, Form, MaskKind, Need, Place, Stage, Store};
use crate::key::Key;

const V10: u8 = 1;
const V12: u8 = 3;
const V13: u8 = 4;
const V14: u8 = 5;
const V15: u8 = 6;
const ONF: u32 = 0x4f4e_4600;
const NICIRA: u32 = 0x2320;
const NSH: u32 = 0x005a_d650;

const fn nxm(number: u8, name: &'static str) -> Code {
    Code { class: Class::NXM_OF, experimenter: 0, number, version: V10, name }
}
const fn nx(number: u8, name: &'static str) -> Code {
    Code { class: Class::NXM_NX, experimenter: 0, number, version: V10, name }
}
const fn of(number: u8, version: u8, name: &'static str) -> Code {
    Code { class: Class::OPENFLOW, experimenter: 0, number, version, name }
}
const fn pkt_reg(number: u8, name: &'static str) -> Code {
    Code { class: Class::PACKET_REGS, experimenter: 0, number, version: V13, name }
}
const fn ericsson(number: u8, name: &'static str) -> Code {
    Code { class: Class::ERICSSON, experimenter: 0, number, version: V10, name }
}
const fn exp(experimenter: u32, number: u8, version: u8, name: &'static str) -> Code {
    Code { class: Class::EXPERIMENTER, experimenter, number, version, name }
}

const fn size_of_part<T>(_: fn(&Key) -> *const T) -> usize {
    size_of::<T>()
}

/// Where a member of `Key` lies, and which of its bits a field has.
#[allow(clippy::cast_possible_truncation, reason = "offsets and sizes are below 1024")]
const fn place(byte: usize, bytes: usize, lo: u16, hi: u16, store: Store) -> Place {
    let hi = if hi == 0 { bytes as u16 * 8 } else { hi };
    Place { byte: byte as u16, bytes: bytes as u16, lo, bits: hi - lo, store }
}

macro_rules! place {
    (@lo) => { 0 }; (@lo $lo:literal) => { $lo };
    (@hi) => { 0 }; (@hi $hi:literal) => { $hi };
    (@store) => { Store::Plain }; (@store $store:ident) => { Store::$store };
    ($member:ident $([$lo:literal .. $hi:literal])? $(as $store:ident)?) => {
        place(
            core::mem::offset_of!(Key, $member),
            size_of_part(|k: &Key| &raw const k.$member),
            place!(@lo $($lo)?), place!(@hi $($hi)?), place!(@store $($store)?),
        )
    };
}

macro_rules! row {
    (@alias) => { None }; (@alias $alias:literal) => { Some($alias) };
    (@express -) => { Express::No }; (@express $how:ident) => { Express::$how };
    (@writable rw) => { true }; (@writable ro) => { false };
    (@dp -) => { None }; (@dp $dp:ident) => { Some(DpAttr::$dp) };
    (@prefix) => { false }; (@prefix prefix) => { true };
    ( $name:literal $(or $alias:literal)? in $member:ident $([$lo:literal .. $hi:literal])? $(as $store:ident)?;
      $bits:literal bits in $bytes:literal; mask $mask:ident, of10 $of10:tt, of11 $of11:tt; need $need:ident; $rw:ident; text $form:ident;
      oxm [$($code:expr),*]; dp $dp:tt; tc $flower:ident $(($key:literal $(, $key_mask:literal)?))?; stage $stage:ident $(, $prefix:ident)? ) => {
        row!(@def $name, row!(@alias $($alias)?), place!($member $([$lo .. $hi])? $(as $store)?);
          $bits bits in $bytes; mask $mask, of10 $of10, of11 $of11; need $need; $rw; text $form;
          oxm [$($code),*]; dp $dp; tc $flower $(($key $(, $key_mask)?))?; stage $stage $(, $prefix)?)
    };
    ( @def $name:expr, $alias:expr, $place:expr;
      $bits:literal bits in $bytes:literal; mask $mask:ident, of10 $of10:tt, of11 $of11:tt; need $need:ident; $rw:ident; text $form:ident;
      oxm [$($code:expr),*]; dp $dp:tt; tc $flower:ident $(($key:literal $(, $key_mask:literal)?))?; stage $stage:ident $(, $prefix:ident)? ) => {
        Def {
            field: Field::DpHash, // replaced by `fields!`
            name: $name,
            alias: $alias,
            place: $place,
            bits: $bits,
            bytes: $bytes,
            mask: MaskKind::$mask,
            of10: row!(@express $of10),
            of11: row!(@express $of11),
            need: Need::$need,
            writable: row!(@writable $rw),
            form: Form::$form,
            codes: { const CODES: &[Code] = &[$($code),*]; CODES },
            dp: row!(@dp $dp),
            flower: Flower::$flower $(($key $(, $key_mask)?))?,
            stage: Stage::$stage,
            prefix: row!(@prefix $($prefix)?),
        }
    };
}

/// A Geneve option; where it lies in `Key::tun_metadata` is decided at run time (`tunnel_options`).
macro_rules! tun_metadata {
    ($n:literal) => {
        row!(@def concat!("tun_metadata", $n), None, place!(tun_metadata as Option);
          992 bits in 124; mask Bits, of10 -, of11 -; need Nothing; rw; text Hex;
          oxm [nx(40 + $n, concat!("NXM_NX_TUN_METADATA", $n))]; dp Tunnel; tc Masked(84, 85); stage Metadata)
    };
}

macro_rules! reg_place {
    ($n:literal, $bytes:literal) => {
        place(core::mem::offset_of!(Key, regs) + $n * $bytes, $bytes, 0, 0, Store::Plain)
    };
}

macro_rules! reg {
    ($n:literal) => { reg!($n, [nx($n, concat!("NXM_NX_REG", $n))]) };
    ($n:literal exp) => { reg!($n, [exp(NICIRA, 1 + $n, V10, concat!("NXOXM_ET_REG", $n))]) };
    ($n:literal, [$code:expr]) => {
        row!(@def concat!("reg", $n), None, reg_place!($n, 4);
          32 bits in 4; mask Bits, of10 -, of11 -; need Nothing; rw; text Hex; oxm [$code]; dp -; tc Absent; stage Metadata)
    };
}

macro_rules! xreg {
    ($n:literal) => {
        row!(@def concat!("xreg", $n), None, reg_place!($n, 8);
          64 bits in 8; mask Bits, of10 -, of11 -; need Nothing; rw; text Hex;
          oxm [pkt_reg($n, concat!("OXM_OF_PKT_REG", $n))]; dp -; tc Absent; stage Metadata)
    };
}

macro_rules! xxreg {
    ($n:literal) => { xxreg!($n, [nx(111 + $n, concat!("NXM_NX_XXREG", $n))]) };
    ($n:literal exp) => { xxreg!($n, [exp(NICIRA, 29 + $n, V10, concat!("NXOXM_ET_XXREG", $n))]) };
    ($n:literal, [$code:expr]) => {
        row!(@def concat!("xxreg", $n), None, reg_place!($n, 16);
          128 bits in 16; mask Bits, of10 -, of11 -; need Nothing; rw; text Hex; oxm [$code]; dp -; tc Absent; stage Metadata)
    };
}

macro_rules! fields {
    ($( $id:ident = $def:expr; )*) => {
        /// A match or meta field, by OVS's primary name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Field { $( $id ),* }

        impl Field {
            /// Every field, in table order.
            pub const ALL: &'static [Self] = &[ $( Self::$id ),* ];
        }

        /// The rows, indexed by `Field as usize`.
        pub(super) static TABLE: [Def; Field::ALL.len()] = [ $( Def { field: Field::$id, ..$def } ),* ];
        const CHECKED: &[Place] = &[ $( $def.place ),* ];
    };
}

fields! {
    DpHash = row! { "dp_hash" in dp_hash; 32 bits in 4; mask Bits, of10 -, of11 -; need Nothing; ro; text Hex;
        oxm [nx(35, "NXM_NX_DP_HASH"), exp(NICIRA, 0, V10, "NXOXM_ET_DP_HASH")]; dp DpHash; tc Masked(100, 101); stage Metadata };
    RecircId = row! { "recirc_id" in recirc_id; 32 bits in 4; mask Exact, of10 -, of11 -; need Nothing; ro; text Decimal;
        oxm [nx(36, "NXM_NX_RECIRC_ID")]; dp RecircId; tc Filter; stage Metadata };
    PacketType = row! { "packet_type" in packet_type; 32 bits in 4; mask Exact, of10 -, of11 -; need Nothing; ro; text PacketType;
        oxm [of(44, V15, "OXM_OF_PACKET_TYPE")]; dp PacketType; tc Absent; stage Metadata };
    ConjId = row! { "conj_id" in conj_id; 32 bits in 4; mask Exact, of10 -, of11 -; need Nothing; ro; text Decimal;
        oxm [nx(37, "NXM_NX_CONJ_ID")]; dp -; tc Absent; stage Metadata };
    TunId = row! { "tun_id" or "tunnel_id" in tun_id; 64 bits in 8; mask Bits, of10 -, of11 -; need Nothing; rw; text Hex;
        oxm [nx(16, "NXM_NX_TUN_ID"), of(38, V13, "OXM_OF_TUNNEL_ID")]; dp Tunnel; tc Exact(26); stage Metadata, prefix };
    TunSrc = row! { "tun_src" in tun_src; 32 bits in 4; mask Bits, of10 -, of11 -; need Nothing; rw; text Ipv4;
        oxm [nx(31, "NXM_NX_TUN_IPV4_SRC")]; dp Tunnel; tc Masked(27, 28); stage Metadata, prefix };
    TunDst = row! { "tun_dst" in tun_dst; 32 bits in 4; mask Bits, of10 -, of11 -; need Nothing; rw; text Ipv4;
        oxm [nx(32, "NXM_NX_TUN_IPV4_DST")]; dp Tunnel; tc Masked(29, 30); stage Metadata, prefix };
    TunIpv6Src = row! { "tun_ipv6_src" in tun_ipv6_src; 128 bits in 16; mask Bits, of10 -, of11 -; need Nothing; rw; text Ipv6;
        oxm [nx(109, "NXM_NX_TUN_IPV6_SRC")]; dp Tunnel; tc Masked(31, 32); stage Metadata, prefix };
    TunIpv6Dst = row! { "tun_ipv6_dst" in tun_ipv6_dst; 128 bits in 16; mask Bits, of10 -, of11 -; need Nothing; rw; text Ipv6;
        oxm [nx(110, "NXM_NX_TUN_IPV6_DST")]; dp Tunnel; tc Masked(33, 34); stage Metadata, prefix };
    TunFlags = row! { "tun_flags" in tun_flags[3..4]; 1 bits in 2; mask Bits, of10 -, of11 -; need Nothing; rw; text TunFlags;
        oxm [nx(104, "NXM_NX_TUN_FLAGS")]; dp Tunnel; tc Masked(110, 111); stage Metadata };
    TunTtl = row! { "tun_ttl" in tun_ttl; 8 bits in 1; mask Exact, of10 -, of11 -; need Nothing; ro; text Decimal;
        oxm []; dp Tunnel; tc Masked(82, 83); stage Metadata };
    TunTos = row! { "tun_tos" in tun_tos; 8 bits in 1; mask Exact, of10 -, of11 -; need Nothing; ro; text Decimal;
        oxm []; dp Tunnel; tc Masked(80, 81); stage Metadata };
    TunGbpId = row! { "tun_gbp_id" in tun_gbp_id; 16 bits in 2; mask Bits, of10 -, of11 -; need Nothing; rw; text Decimal;
        oxm [nx(38, "NXM_NX_TUN_GBP_ID")]; dp Tunnel; tc Masked(84, 85); stage Metadata };
    TunGbpFlags = row! { "tun_gbp_flags" in tun_gbp_flags; 8 bits in 1; mask Bits, of10 -, of11 -; need Nothing; rw; text Hex;
        oxm [nx(39, "NXM_NX_TUN_GBP_FLAGS")]; dp Tunnel; tc Masked(84, 85); stage Metadata };
    TunErspanIdx = row! { "tun_erspan_idx" in tun_erspan_idx[0..20]; 20 bits in 4; mask Bits, of10 -, of11 -; need Nothing; rw; text Hex;
        oxm [exp(NICIRA, 11, V10, "NXOXM_ET_ERSPAN_IDX")]; dp Tunnel; tc Masked(84, 85); stage Metadata };
    TunErspanVer = row! { "tun_erspan_ver" in tun_erspan_ver[0..4]; 4 bits in 1; mask Bits, of10 -, of11 -; need Nothing; rw; text Decimal;
        oxm [exp(NICIRA, 12, V10, "NXOXM_ET_ERSPAN_VER")]; dp Tunnel; tc Masked(84, 85); stage Metadata };
    TunErspanDir = row! { "tun_erspan_dir" in tun_erspan_dir[0..1]; 1 bits in 1; mask Bits, of10 -, of11 -; need Nothing; rw; text Decimal;
        oxm [exp(NICIRA, 13, V10, "NXOXM_ET_ERSPAN_DIR")]; dp Tunnel; tc Masked(84, 85); stage Metadata };
    TunErspanHwid = row! { "tun_erspan_hwid" in tun_erspan_hwid[0..6]; 6 bits in 1; mask Bits, of10 -, of11 -; need Nothing; rw; text Hex;
        oxm [exp(NICIRA, 14, V10, "NXOXM_ET_ERSPAN_HWID")]; dp Tunnel; tc Masked(84, 85); stage Metadata };
    TunGtpuFlags = row! { "tun_gtpu_flags" in tun_gtpu_flags; 8 bits in 1; mask Bits, of10 -, of11 -; need Nothing; ro; text Hex;
        oxm [exp(NICIRA, 15, V10, "NXOXM_ET_GTPU_FLAGS")]; dp Tunnel; tc Masked(84, 85); stage Metadata };
    TunGtpuMsgtype = row! { "tun_gtpu_msgtype" in tun_gtpu_msgtype; 8 bits in 1; mask Bits, of10 -, of11 -; need Nothing; ro; text Decimal;
        oxm [exp(NICIRA, 16, V10, "NXOXM_ET_GTPU_MSGTYPE")]; dp Tunnel; tc Masked(84, 85); stage Metadata };
    TunMetadata0 = tun_metadata!(0); TunMetadata1 = tun_metadata!(1); TunMetadata2 = tun_metadata!(2); TunMetadata3 = tun_metadata!(3);
    TunMetadata4 = tun_metadata!(4); TunMetadata5 = tun_metadata!(5); TunMetadata6 = tun_metadata!(6); TunMetadata7 = tun_metadata!(7);
    TunMetadata8 = tun_metadata!(8); TunMetadata9 = tun_metadata!(9); TunMetadata10 = tun_metadata!(10); TunMetadata11 = tun_metadata!(11);
    TunMetadata12 = tun_metadata!(12); TunMetadata13 = tun_metadata!(13); TunMetadata14 = tun_metadata!(14); TunMetadata15 = tun_metadata!(15);
    TunMetadata16 = tun_metadata!(16); TunMetadata17 = tun_metadata!(17); TunMetadata18 = tun_metadata!(18); TunMetadata19 = tun_metadata!(19);
    TunMetadata20 = tun_metadata!(20); TunMetadata21 = tun_metadata!(21); TunMetadata22 = tun_metadata!(22); TunMetadata23 = tun_metadata!(23);
    TunMetadata24 = tun_metadata!(24); TunMetadata25 = tun_metadata!(25); TunMetadata26 = tun_metadata!(26); TunMetadata27 = tun_metadata!(27);
    TunMetadata28 = tun_metadata!(28); TunMetadata29 = tun_metadata!(29); TunMetadata30 = tun_metadata!(30); TunMetadata31 = tun_metadata!(31);
    TunMetadata32 = tun_metadata!(32); TunMetadata33 = tun_metadata!(33); TunMetadata34 = tun_metadata!(34); TunMetadata35 = tun_metadata!(35);
    TunMetadata36 = tun_metadata!(36); TunMetadata37 = tun_metadata!(37); TunMetadata38 = tun_metadata!(38); TunMetadata39 = tun_metadata!(39);
    TunMetadata40 = tun_metadata!(40); TunMetadata41 = tun_metadata!(41); TunMetadata42 = tun_metadata!(42); TunMetadata43 = tun_metadata!(43);
    TunMetadata44 = tun_metadata!(44); TunMetadata45 = tun_metadata!(45); TunMetadata46 = tun_metadata!(46); TunMetadata47 = tun_metadata!(47);
    TunMetadata48 = tun_metadata!(48); TunMetadata49 = tun_metadata!(49); TunMetadata50 = tun_metadata!(50); TunMetadata51 = tun_metadata!(51);
    TunMetadata52 = tun_metadata!(52); TunMetadata53 = tun_metadata!(53); TunMetadata54 = tun_metadata!(54); TunMetadata55 = tun_metadata!(55);
    TunMetadata56 = tun_metadata!(56); TunMetadata57 = tun_metadata!(57); TunMetadata58 = tun_metadata!(58); TunMetadata59 = tun_metadata!(59);
    TunMetadata60 = tun_metadata!(60); TunMetadata61 = tun_metadata!(61); TunMetadata62 = tun_metadata!(62); TunMetadata63 = tun_metadata!(63);
    Metadata = row! { "metadata" in metadata; 64 bits in 8; mask Bits, of10 -, of11 Bits; need Nothing; rw; text Hex;
        oxm [of(2, V12, "OXM_OF_METADATA")]; dp -; tc Absent; stage Metadata };
    InPort = row! { "in_port" in in_port as Port16; 16 bits in 2; mask Exact, of10 Exact, of11 Exact; need Nothing; rw; text Port16;
        oxm [nxm(0, "NXM_OF_IN_PORT")]; dp InPort; tc Filter; stage Metadata };
    InPortOxm = row! { "in_port_oxm" in in_port as Port32; 32 bits in 4; mask Exact, of10 -, of11 Exact; need Nothing; rw; text Port32;
        oxm [of(0, V12, "OXM_OF_IN_PORT")]; dp InPort; tc Filter; stage Metadata };
    ActsetOutput = row! { "actset_output" in actset_output as Port32; 32 bits in 4; mask Exact, of10 -, of11 -; need Nothing; ro; text Port32;
        oxm [exp(ONF, 43, V13, "ONFOXM_ET_ACTSET_OUTPUT"), of(43, V15, "OXM_OF_ACTSET_OUTPUT")]; dp -; tc Absent; stage Metadata };
    SkbPriority = row! { "skb_priority" in skb_priority; 32 bits in 4; mask Exact, of10 -, of11 -; need Nothing; ro; text Hex;
        oxm []; dp Priority; tc Absent; stage Metadata };
    PktMark = row! { "pkt_mark" in pkt_mark; 32 bits in 4; mask Bits, of10 -, of11 -; need Nothing; rw; text Hex;
        oxm [nx(33, "NXM_NX_PKT_MARK")]; dp SkbMark; tc Absent; stage Metadata };
    CtState = row! { "ct_state" in ct_state; 32 bits in 4; mask Bits, of10 -, of11 -; need Nothing; ro; text CtState;
        oxm [nx(105, "NXM_NX_CT_STATE")]; dp CtState; tc Masked(91, 92); stage Metadata };
    CtZone = row! { "ct_zone" in ct_zone; 16 bits in 2; mask Exact, of10 -, of11 -; need Nothing; ro; text Hex;
        oxm [nx(106, "NXM_NX_CT_ZONE")]; dp CtZone; tc Masked(93, 94); stage Metadata };
    CtMark = row! { "ct_mark" in ct_mark; 32 bits in 4; mask Bits, of10 -, of11 -; need Nothing; rw; text Hex;
        oxm [nx(107, "NXM_NX_CT_MARK")]; dp CtMark; tc Masked(95, 96); stage Metadata };
    CtLabel = row! { "ct_label" in ct_label; 128 bits in 16; mask Bits, of10 -, of11 -; need Nothing; rw; text Hex;
        oxm [nx(108, "NXM_NX_CT_LABEL")]; dp CtLabels; tc Masked(97, 98); stage Metadata };
    CtNwProto = row! { "ct_nw_proto" in ct_nw_proto; 8 bits in 1; mask Exact, of10 -, of11 -; need Ct; ro; text Decimal;
        oxm [nx(119, "NXM_NX_CT_NW_PROTO")]; dp CtTuple4; tc Absent; stage Metadata };
    CtNwSrc = row! { "ct_nw_src" in ct_nw_src; 32 bits in 4; mask Bits, of10 -, of11 -; need Ct; ro; text Ipv4;
        oxm [nx(120, "NXM_NX_CT_NW_SRC")]; dp CtTuple4; tc Absent; stage L3, prefix };
    CtNwDst = row! { "ct_nw_dst" in ct_nw_dst; 32 bits in 4; mask Bits, of10 -, of11 -; need Ct; ro; text Ipv4;
        oxm [nx(121, "NXM_NX_CT_NW_DST")]; dp CtTuple4; tc Absent; stage L3, prefix };
    CtIpv6Src = row! { "ct_ipv6_src" in ct_ipv6_src; 128 bits in 16; mask Bits, of10 -, of11 -; need Ct; ro; text Ipv6;
        oxm [nx(122, "NXM_NX_CT_IPV6_SRC")]; dp CtTuple6; tc Absent; stage L3, prefix };
    CtIpv6Dst = row! { "ct_ipv6_dst" in ct_ipv6_dst; 128 bits in 16; mask Bits, of10 -, of11 -; need Ct; ro; text Ipv6;
        oxm [nx(123, "NXM_NX_CT_IPV6_DST")]; dp CtTuple6; tc Absent; stage L3, prefix };
    CtTpSrc = row! { "ct_tp_src" in ct_tp_src; 16 bits in 2; mask Bits, of10 -, of11 -; need Ct; ro; text Decimal;
        oxm [nx(124, "NXM_NX_CT_TP_SRC")]; dp CtTuple4; tc Absent; stage L4 };
    CtTpDst = row! { "ct_tp_dst" in ct_tp_dst; 16 bits in 2; mask Bits, of10 -, of11 -; need Ct; ro; text Decimal;
        oxm [nx(125, "NXM_NX_CT_TP_DST")]; dp CtTuple4; tc Absent; stage L4 };
    Reg0 = reg!(0); Reg1 = reg!(1); Reg2 = reg!(2); Reg3 = reg!(3);
    Reg4 = reg!(4); Reg5 = reg!(5); Reg6 = reg!(6); Reg7 = reg!(7);
    Reg8 = reg!(8); Reg9 = reg!(9); Reg10 = reg!(10); Reg11 = reg!(11);
    Reg12 = reg!(12); Reg13 = reg!(13); Reg14 = reg!(14); Reg15 = reg!(15);
    Reg16 = reg!(16 exp); Reg17 = reg!(17 exp); Reg18 = reg!(18 exp); Reg19 = reg!(19 exp);
    Reg20 = reg!(20 exp); Reg21 = reg!(21 exp); Reg22 = reg!(22 exp); Reg23 = reg!(23 exp);
    Reg24 = reg!(24 exp); Reg25 = reg!(25 exp); Reg26 = reg!(26 exp); Reg27 = reg!(27 exp);
    Reg28 = reg!(28 exp); Reg29 = reg!(29 exp); Reg30 = reg!(30 exp); Reg31 = reg!(31 exp);
    Xreg0 = xreg!(0); Xreg1 = xreg!(1); Xreg2 = xreg!(2); Xreg3 = xreg!(3);
    Xreg4 = xreg!(4); Xreg5 = xreg!(5); Xreg6 = xreg!(6); Xreg7 = xreg!(7);
    Xreg8 = xreg!(8); Xreg9 = xreg!(9); Xreg10 = xreg!(10); Xreg11 = xreg!(11);
    Xreg12 = xreg!(12); Xreg13 = xreg!(13); Xreg14 = xreg!(14); Xreg15 = xreg!(15);
    Xxreg0 = xxreg!(0); Xxreg1 = xxreg!(1); Xxreg2 = xxreg!(2); Xxreg3 = xxreg!(3);
    Xxreg4 = xxreg!(4 exp); Xxreg5 = xxreg!(5 exp); Xxreg6 = xxreg!(6 exp); Xxreg7 = xxreg!(7 exp);
    EthSrc = row! { "eth_src" or "dl_src" in eth_src; 48 bits in 6; mask Bits, of10 Exact, of11 Bits; need Ethernet; rw; text Ethernet;
        oxm [nxm(2, "NXM_OF_ETH_SRC"), of(4, V12, "OXM_OF_ETH_SRC")]; dp Ethernet; tc Masked(6, 7); stage L2 };
    EthDst = row! { "eth_dst" or "dl_dst" in eth_dst; 48 bits in 6; mask Bits, of10 Exact, of11 Bits; need Ethernet; rw; text Ethernet;
        oxm [nxm(1, "NXM_OF_ETH_DST"), of(3, V12, "OXM_OF_ETH_DST")]; dp Ethernet; tc Masked(4, 5); stage L2 };
    EthType = row! { "eth_type" or "dl_type" in eth_type; 16 bits in 2; mask Exact, of10 Exact, of11 Exact; need Ethernet; ro; text Hex;
        oxm [nxm(3, "NXM_OF_ETH_TYPE"), of(5, V12, "OXM_OF_ETH_TYPE")]; dp Ethertype; tc Exact(8); stage L2 };
    VlanTci = row! { "vlan_tci" in vlan_tci; 16 bits in 2; mask Bits, of10 Exact, of11 Exact; need Ethernet; rw; text Hex;
        oxm [nxm(4, "NXM_OF_VLAN_TCI")]; dp Vlan; tc Parts; stage L2 };
    DlVlan = row! { "dl_vlan" in vlan_tci[0..12] as Vid; 12 bits in 2; mask Exact, of10 Exact, of11 Exact; need Ethernet; rw; text Decimal;
        oxm []; dp Vlan; tc Exact(23); stage L2 };
    VlanVid = row! { "vlan_vid" in vlan_tci[0..13]; 12 bits in 2; mask Bits, of10 Exact, of11 Exact; need Ethernet; rw; text Decimal;
        oxm [of(6, V12, "OXM_OF_VLAN_VID")]; dp Vlan; tc Exact(23); stage L2 };
    DlVlanPcp = row! { "dl_vlan_pcp" in vlan_tci[13..16] as Pcp; 3 bits in 1; mask Exact, of10 Exact, of11 Exact; need Ethernet; rw; text Decimal;
        oxm []; dp Vlan; tc Exact(24); stage L2 };
    VlanPcp = row! { "vlan_pcp" in vlan_tci[13..16] as Pcp; 3 bits in 1; mask Exact, of10 Exact, of11 Exact; need Vlan; rw; text Decimal;
        oxm [of(7, V12, "OXM_OF_VLAN_PCP")]; dp Vlan; tc Exact(24); stage L2 };
    MplsLabel = row! { "mpls_label" in mpls_lse0[12..32]; 20 bits in 4; mask Exact, of10 -, of11 Exact; need Mpls; rw; text Decimal;
        oxm [of(34, V12, "OXM_OF_MPLS_LABEL")]; dp Mpls; tc Exact(70); stage L2 };
    MplsTc = row! { "mpls_tc" in mpls_lse0[9..12]; 3 bits in 1; mask Exact, of10 -, of11 Exact; need Mpls; rw; text Decimal;
        oxm [of(35, V12, "OXM_OF_MPLS_TC")]; dp Mpls; tc Exact(69); stage L2 };
    MplsBos = row! { "mpls_bos" in mpls_lse0[8..9]; 1 bits in 1; mask Exact, of10 -, of11 -; need Mpls; ro; text Decimal;
        oxm [of(36, V13, "OXM_OF_MPLS_BOS")]; dp Mpls; tc Exact(68); stage L2 };
    MplsTtl = row! { "mpls_ttl" in mpls_lse0[0..8]; 8 bits in 1; mask Exact, of10 -, of11 -; need Mpls; rw; text Decimal;
        oxm [nx(30, "NXM_NX_MPLS_TTL")]; dp Mpls; tc Exact(67); stage L2 };
    PbbIsid = row! { "pbb_isid" in nw_src[0..24]; 24 bits in 3; mask Bits, of10 -, of11 -; need Pbb; rw; text Decimal;
        oxm [of(37, V13, "OXM_OF_PBB_ISID")]; dp Pbb; tc Absent; stage L3 };
    PbbUca = row! { "pbb_uca" in nw_src[27..28]; 1 bits in 1; mask Exact, of10 -, of11 -; need Pbb; rw; text Decimal;
        oxm [of(41, V14, "OXM_OF_PBB_UCA")]; dp Pbb; tc Absent; stage L3 };
    IpSrc = row! { "ip_src" or "nw_src" in nw_src; 32 bits in 4; mask Bits, of10 Cidr, of11 Bits; need Ipv4; rw; text Ipv4;
        oxm [nxm(7, "NXM_OF_IP_SRC"), of(11, V12, "OXM_OF_IPV4_SRC")]; dp Ipv4; tc Masked(10, 11); stage L3, prefix };
    IpDst = row! { "ip_dst" or "nw_dst" in nw_dst; 32 bits in 4; mask Bits, of10 Cidr, of11 Bits; need Ipv4; rw; text Ipv4;
        oxm [nxm(8, "NXM_OF_IP_DST"), of(12, V12, "OXM_OF_IPV4_DST")]; dp Ipv4; tc Masked(12, 13); stage L3, prefix };
    Ipv6Src = row! { "ipv6_src" in ipv6_src; 128 bits in 16; mask Bits, of10 -, of11 -; need Ipv6; rw; text Ipv6;
        oxm [nx(19, "NXM_NX_IPV6_SRC"), of(26, V12, "OXM_OF_IPV6_SRC")]; dp Ipv6; tc Masked(14, 15); stage L3, prefix };
    Ipv6Dst = row! { "ipv6_dst" in ipv6_dst; 128 bits in 16; mask Bits, of10 -, of11 -; need Ipv6; rw; text Ipv6;
        oxm [nx(20, "NXM_NX_IPV6_DST"), of(27, V12, "OXM_OF_IPV6_DST")]; dp Ipv6; tc Masked(16, 17); stage L3, prefix };
    Ipv6Label = row! { "ipv6_label" in ipv6_label[0..20]; 20 bits in 4; mask Bits, of10 -, of11 -; need Ipv6; rw; text Hex;
        oxm [nx(27, "NXM_NX_IPV6_LABEL"), of(28, V12, "OXM_OF_IPV6_FLABEL")]; dp Ipv6; tc Absent; stage L3 };
    Ipv6Exthdr = row! { "ipv6_exthdr" in ipv6_label[20..29]; 9 bits in 2; mask Bits, of10 -, of11 -; need Ipv6; ro; text Hex;
        oxm [of(39, V13, "OXM_OF_IPV6_EXTHDR")]; dp Ipv6Exthdrs; tc Absent; stage L3 };
    NwProto = row! { "nw_proto" or "ip_proto" in nw_proto; 8 bits in 1; mask Exact, of10 Exact, of11 Exact; need Ip; ro; text Decimal;
        oxm [nxm(6, "NXM_OF_IP_PROTO"), of(10, V12, "OXM_OF_IP_PROTO")]; dp Ipv4; tc Exact(9); stage L3 };
    NwTos = row! { "nw_tos" in nw_tos[2..8] as Unshifted; 8 bits in 1; mask Exact, of10 Exact, of11 Exact; need Ip; rw; text Decimal;
        oxm [nxm(5, "NXM_OF_IP_TOS")]; dp Ipv4; tc Masked(73, 74); stage L3 };
    IpDscp = row! { "ip_dscp" in nw_tos[2..8]; 6 bits in 1; mask Exact, of10 Exact, of11 Exact; need Ip; rw; text Decimal;
        oxm [of(8, V12, "OXM_OF_IP_DSCP")]; dp Ipv4; tc Masked(73, 74); stage L3 };
    NwEcn = row! { "nw_ecn" or "ip_ecn" in nw_tos[0..2]; 2 bits in 1; mask Exact, of10 -, of11 Exact; need Ip; rw; text Decimal;
        oxm [nx(28, "NXM_NX_IP_ECN"), of(9, V12, "OXM_OF_IP_ECN")]; dp Ipv4; tc Masked(73, 74); stage L3 };
    NwTtl = row! { "nw_ttl" in nw_ttl; 8 bits in 1; mask Exact, of10 -, of11 -; need Ip; rw; text Decimal;
        oxm [nx(29, "NXM_NX_IP_TTL")]; dp Ipv4; tc Masked(75, 76); stage L3 };
    IpFrag = row! { "ip_frag" or "nw_frag" in nw_frag[0..2]; 2 bits in 1; mask Bits, of10 -, of11 -; need Ip; ro; text Frag;
        oxm [nx(26, "NXM_NX_IP_FRAG")]; dp Ipv4; tc Masked(47, 48); stage L3 };
    ArpOp = row! { "arp_op" in nw_proto; 16 bits in 2; mask Exact, of10 Exact, of11 Exact; need Arp; rw; text Decimal;
        oxm [nxm(15, "NXM_OF_ARP_OP"), of(21, V12, "OXM_OF_ARP_OP")]; dp Arp; tc Masked(61, 62); stage L3 };
    ArpSpa = row! { "arp_spa" in nw_src; 32 bits in 4; mask Bits, of10 Cidr, of11 Bits; need Arp; rw; text Ipv4;
        oxm [nxm(16, "NXM_OF_ARP_SPA"), of(22, V12, "OXM_OF_ARP_SPA")]; dp Arp; tc Masked(57, 58); stage L3 };
    ArpTpa = row! { "arp_tpa" in nw_dst; 32 bits in 4; mask Bits, of10 Cidr, of11 Bits; need Arp; rw; text Ipv4;
        oxm [nxm(17, "NXM_OF_ARP_TPA"), of(23, V12, "OXM_OF_ARP_TPA")]; dp Arp; tc Masked(59, 60); stage L3 };
    ArpSha = row! { "arp_sha" in arp_sha; 48 bits in 6; mask Bits, of10 -, of11 -; need Arp; rw; text Ethernet;
        oxm [nx(17, "NXM_NX_ARP_SHA"), of(24, V12, "OXM_OF_ARP_SHA")]; dp Arp; tc Masked(63, 64); stage L4 };
    ArpTha = row! { "arp_tha" in arp_tha; 48 bits in 6; mask Bits, of10 -, of11 -; need Arp; rw; text Ethernet;
        oxm [nx(18, "NXM_NX_ARP_THA"), of(25, V12, "OXM_OF_ARP_THA")]; dp Arp; tc Masked(65, 66); stage L4 };
    TcpSrc = row! { "tcp_src" or "tp_src" in tp_src; 16 bits in 2; mask Bits, of10 Exact, of11 Exact; need Tcp; rw; text Decimal;
        oxm [nxm(9, "NXM_OF_TCP_SRC"), of(13, V12, "OXM_OF_TCP_SRC")]; dp Tcp; tc Masked(18, 35); stage L4 };
    TcpDst = row! { "tcp_dst" or "tp_dst" in tp_dst; 16 bits in 2; mask Bits, of10 Exact, of11 Exact; need Tcp; rw; text Decimal;
        oxm [nxm(10, "NXM_OF_TCP_DST"), of(14, V12, "OXM_OF_TCP_DST")]; dp Tcp; tc Masked(19, 36); stage L4 };
    TcpFlags = row! { "tcp_flags" in tcp_flags[0..12]; 12 bits in 2; mask Bits, of10 -, of11 -; need Tcp; ro; text TcpFlags;
        oxm [nx(34, "NXM_NX_TCP_FLAGS"), exp(ONF, 42, V13, "ONFOXM_ET_TCP_FLAGS"), of(42, V15, "OXM_OF_TCP_FLAGS")]; dp TcpFlags; tc Masked(71, 72); stage L4 };
    UdpSrc = row! { "udp_src" in tp_src; 16 bits in 2; mask Bits, of10 Exact, of11 Exact; need Udp; rw; text Decimal;
        oxm [nxm(11, "NXM_OF_UDP_SRC"), of(15, V12, "OXM_OF_UDP_SRC")]; dp Udp; tc Masked(20, 37); stage L4 };
    UdpDst = row! { "udp_dst" in tp_dst; 16 bits in 2; mask Bits, of10 Exact, of11 Exact; need Udp; rw; text Decimal;
        oxm [nxm(12, "NXM_OF_UDP_DST"), of(16, V12, "OXM_OF_UDP_DST")]; dp Udp; tc Masked(21, 38); stage L4 };
    SctpSrc = row! { "sctp_src" in tp_src; 16 bits in 2; mask Bits, of10 -, of11 Exact; need Sctp; rw; text Decimal;
        oxm [of(17, V12, "OXM_OF_SCTP_SRC")]; dp Sctp; tc Masked(41, 39); stage L4 };
    SctpDst = row! { "sctp_dst" in tp_dst; 16 bits in 2; mask Bits, of10 -, of11 Exact; need Sctp; rw; text Decimal;
        oxm [of(18, V12, "OXM_OF_SCTP_DST")]; dp Sctp; tc Masked(42, 40); stage L4 };
    IcmpType = row! { "icmp_type" in tp_src[0..8]; 8 bits in 1; mask Exact, of10 Exact, of11 Exact; need Icmpv4; rw; text Decimal;
        oxm [nxm(13, "NXM_OF_ICMP_TYPE"), of(19, V12, "OXM_OF_ICMPV4_TYPE")]; dp Icmp; tc Masked(51, 52); stage L4 };
    IcmpCode = row! { "icmp_code" in tp_dst[0..8]; 8 bits in 1; mask Exact, of10 Exact, of11 Exact; need Icmpv4; rw; text Decimal;
        oxm [nxm(14, "NXM_OF_ICMP_CODE"), of(20, V12, "OXM_OF_ICMPV4_CODE")]; dp Icmp; tc Masked(49, 50); stage L4 };
    Icmpv6Type = row! { "icmpv6_type" in tp_src[0..8]; 8 bits in 1; mask Exact, of10 -, of11 -; need Icmpv6; rw; text Decimal;
        oxm [nx(21, "NXM_NX_ICMPV6_TYPE"), of(29, V12, "OXM_OF_ICMPV6_TYPE")]; dp Icmpv6; tc Masked(55, 56); stage L4 };
    Icmpv6Code = row! { "icmpv6_code" in tp_dst[0..8]; 8 bits in 1; mask Exact, of10 -, of11 -; need Icmpv6; rw; text Decimal;
        oxm [nx(22, "NXM_NX_ICMPV6_CODE"), of(30, V12, "OXM_OF_ICMPV6_CODE")]; dp Icmpv6; tc Masked(53, 54); stage L4 };
    NdTarget = row! { "nd_target" in nd_target; 128 bits in 16; mask Bits, of10 -, of11 -; need Nd; rw; text Ipv6;
        oxm [nx(23, "NXM_NX_ND_TARGET"), of(31, V12, "OXM_OF_IPV6_ND_TARGET")]; dp Nd; tc Absent; stage L4 };
    NdSll = row! { "nd_sll" in arp_sha; 48 bits in 6; mask Bits, of10 -, of11 -; need NdSolicit; rw; text Ethernet;
        oxm [nx(24, "NXM_NX_ND_SLL"), of(32, V12, "OXM_OF_IPV6_ND_SLL")]; dp Nd; tc Absent; stage L4 };
    NdTll = row! { "nd_tll" in arp_tha; 48 bits in 6; mask Bits, of10 -, of11 -; need NdAdvert; rw; text Ethernet;
        oxm [nx(25, "NXM_NX_ND_TLL"), of(33, V12, "OXM_OF_IPV6_ND_TLL")]; dp Nd; tc Absent; stage L4 };
    NdReserved = row! { "nd_reserved" in nd_reserved; 32 bits in 4; mask Exact, of10 -, of11 -; need Nd; rw; text Decimal;
        oxm [ericsson(1, "ERICOXM_OF_ICMPV6_ND_RESERVED")]; dp NdExt; tc Absent; stage L4 };
    NdOptionsType = row! { "nd_options_type" in tcp_flags[8..16]; 8 bits in 1; mask Exact, of10 -, of11 -; need Nd; rw; text Decimal;
        oxm [ericsson(2, "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE")]; dp NdExt; tc Absent; stage L4 };
    NshFlags = row! { "nsh_flags" in nsh_flags; 8 bits in 1; mask Bits, of10 -, of11 -; need Nsh; rw; text Decimal;
        oxm [exp(NSH, 1, V10, "NXOXM_NSH_FLAGS")]; dp Nsh; tc Absent; stage L4 };
    NshMdtype = row! { "nsh_mdtype" in nsh_mdtype; 8 bits in 1; mask Exact, of10 -, of11 -; need Nsh; ro; text Decimal;
        oxm [exp(NSH, 2, V10, "NXOXM_NSH_MDTYPE")]; dp Nsh; tc Absent; stage L4 };
    NshNp = row! { "nsh_np" in nsh_np; 8 bits in 1; mask Exact, of10 -, of11 -; need Nsh; ro; text Decimal;
        oxm [exp(NSH, 3, V10, "NXOXM_NSH_NP")]; dp Nsh; tc Absent; stage L4 };
    NshSpi = row! { "nsh_spi" or "nsp" in nsh_path[8..32]; 24 bits in 4; mask Exact, of10 -, of11 -; need Nsh; rw; text Hex;
        oxm [exp(NSH, 4, V10, "NXOXM_NSH_SPI")]; dp Nsh; tc Absent; stage L4 };
    NshSi = row! { "nsh_si" or "nsi" in nsh_path[0..8]; 8 bits in 1; mask Exact, of10 -, of11 -; need Nsh; rw; text Decimal;
        oxm [exp(NSH, 5, V10, "NXOXM_NSH_SI")]; dp Nsh; tc Absent; stage L4 };
    NshC1 = row! { "nsh_c1" or "nshc1" in nsh_c1; 32 bits in 4; mask Bits, of10 -, of11 -; need Nsh; rw; text Hex;
        oxm [exp(NSH, 6, V10, "NXOXM_NSH_C1")]; dp Nsh; tc Absent; stage L4 };
    NshC2 = row! { "nsh_c2" or "nshc2" in nsh_c2; 32 bits in 4; mask Bits, of10 -, of11 -; need Nsh; rw; text Hex;
        oxm [exp(NSH, 7, V10, "NXOXM_NSH_C2")]; dp Nsh; tc Absent; stage L4 };
    NshC3 = row! { "nsh_c3" or "nshc3" in nsh_c3; 32 bits in 4; mask Bits, of10 -, of11 -; need Nsh; rw; text Hex;
        oxm [exp(NSH, 8, V10, "NXOXM_NSH_C3")]; dp Nsh; tc Absent; stage L4 };
    NshC4 = row! { "nsh_c4" or "nshc4" in nsh_c4; 32 bits in 4; mask Bits, of10 -, of11 -; need Nsh; rw; text Hex;
        oxm [exp(NSH, 9, V10, "NXOXM_NSH_C4")]; dp Nsh; tc Absent; stage L4 };
    NshTtl = row! { "nsh_ttl" in nsh_ttl; 8 bits in 1; mask Exact, of10 -, of11 -; need Nsh; rw; text Decimal;
        oxm [exp(NSH, 10, V10, "NXOXM_NSH_TTL")]; dp Nsh; tc Absent; stage L4 };
}

/// Storage without an OpenFlow name: what packets and tunnels carry beside the fields above.
pub(crate) const UNNAMED: &[(Place, Stage)] = &[
    (place!(vlan_tpid), Stage::L2),
    (place!(vlan2_tci), Stage::L2),
    (place!(vlan2_tpid), Stage::L2),
    (place!(mpls_lse1), Stage::L2),
    (place!(mpls_lse2), Stage::L2),
    (place!(tun_tp_src), Stage::Metadata),
    (place!(tun_tp_dst), Stage::Metadata),
    (place!(tun_metadata_present), Stage::Metadata),
    // DF, checksum and key flags; OAM has a row.
    (place!(tun_flags[0..3]), Stage::Metadata),
];

/// Bits that are always zero, because the field is narrower than its storage.
const PADDING: &[Place] = &[
    place!(tun_flags[4..16]),
    place!(tun_erspan_idx[20..32]),
    place!(tun_erspan_ver[4..8]),
    place!(tun_erspan_dir[1..8]),
    place!(tun_erspan_hwid[6..8]),
    place!(ipv6_label[29..32]),
    place!(nw_frag[2..8]),
    place!(spare),
];

/// Every bit of the key is named: a new member of `Key` without a row does not compile.
const _: () = {
    let mut named = [0u8; size_of::<Key>()];
    let count = CHECKED.len() + UNNAMED.len() + PADDING.len();
    let mut i = 0;
    while i < count {
        let p = if i < CHECKED.len() {
            CHECKED[i]
        } else if i < CHECKED.len() + UNNAMED.len() {
            UNNAMED[i - CHECKED.len()].0
        } else {
            PADDING[i - CHECKED.len() - UNNAMED.len()]
        };
        let mut b = p.lo;
        while b < p.lo + p.bits {
            named[(p.byte + p.bytes - 1 - b / 8) as usize] |= 1 << (b % 8);
            b += 1;
        }
        i += 1;
    }
    let mut j = 0;
    while j < named.len() {
        assert!(named[j] == 0xff, "a bit of Key has no row");
        j += 1;
    }
};
