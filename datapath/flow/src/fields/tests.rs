//! Properties of all rows.

use super::*;
use proptest::prelude::*;

/// The numbers of reference/fields.md, and OpenFlow's `pbb_isid`, `pbb_uca` and `ipv6_exthdr`, which OVS does not have.
#[test]
fn the_table_is_whole() {
    assert_eq!(Field::ALL.len(), 211 + 3);
    assert_eq!(TABLE.iter().filter(|d| d.writable).count(), 185 + 2);
    assert_eq!(TABLE.iter().filter(|d| d.mask == MaskKind::Bits).count(), 175 + 2);
    assert_eq!(TABLE.iter().map(|d| d.codes.len()).sum::<usize>(), 237 + 3);
    for (n, def) in TABLE.iter().enumerate() {
        assert_eq!(def.field as usize, n);
    }
}

#[test]
fn names_and_codes_are_unique() {
    let mut names = crate::hash::Set::default();
    let mut headers = crate::hash::Set::default();
    for def in &TABLE {
        for name in [Some(def.name), def.alias].into_iter().flatten().chain(def.codes.iter().map(|c| c.name)) {
            assert!(names.insert(name), "{name}");
            assert_eq!(Field::by_name(name), Some(def.field), "{name}");
        }
        for code in def.codes {
            assert!(headers.insert(code.header()), "{}", code.name);
            assert_eq!(Field::by_header(code.header()), Some(def.field), "{}", code.name);
        }
    }
}

#[test]
fn families_count_up() {
    assert_eq!(Field::reg(31), Some(Field::Reg31));
    assert_eq!(Field::reg(32), None);
    assert_eq!(Field::xxreg(7), Some(Field::Xxreg7));
    assert_eq!(Field::tun_metadata(63).and_then(Field::tun_metadata_number), Some(63));
    assert_eq!(Field::Reg15.row().codes[0].name, "NXM_NX_REG15");
    assert_eq!(Field::Reg16.row().codes[0].header(), Header { class: Class::EXPERIMENTER, experimenter: 0x2320, number: 17 });
    assert_eq!(Field::Xxreg4.row().codes[0].number, 33);
}

#[test]
fn the_newest_code_a_peer_knows() {
    let name = |f: Field, version| f.code(version).map(|c| c.name);
    assert_eq!(name(Field::EthSrc, 1), Some("NXM_OF_ETH_SRC"));
    assert_eq!(name(Field::EthSrc, 4), Some("OXM_OF_ETH_SRC"));
    assert_eq!(name(Field::TcpFlags, 1), Some("NXM_NX_TCP_FLAGS"));
    assert_eq!(name(Field::TcpFlags, 4), Some("ONFOXM_ET_TCP_FLAGS"));
    assert_eq!(name(Field::TcpFlags, 6), Some("OXM_OF_TCP_FLAGS"));
    assert_eq!(name(Field::Metadata, 1), Some("OXM_OF_METADATA"));
    assert_eq!(name(Field::DlVlan, 4), None);
}

#[test]
fn registers_overlay() {
    let mut key = Key::ZERO;
    Field::Xxreg1.set(&mut key, 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
    assert_eq!(Field::Xreg2.get(&key), 0x0001_0203_0405_0607);
    assert_eq!(Field::Reg7.get(&key), 0x0c0d_0e0f);
}

#[test]
fn vlan_forms() {
    let mut key = Key::ZERO;
    Field::DlVlan.set(&mut key, 10);
    assert_eq!(key.vlan_tci, [0x10, 10]);
    assert_eq!(Field::VlanVid.get(&key), 0x100a);
    Field::DlVlanPcp.set(&mut key, 7);
    assert_eq!(Field::VlanTci.get(&key), 0xf00a);
    Field::VlanVid.set(&mut key, 0x1005);
    assert_eq!(Field::VlanTci.get(&key), 0xf005);
    Field::DlVlan.set(&mut key, DL_VLAN_NONE);
    assert_eq!(Field::VlanTci.get(&key), 0);
    let mut mask = Key::ZERO;
    Field::DlVlan.set_mask(&mut mask, 0xfff);
    assert_eq!(mask.vlan_tci, [0x1f, 0xff]);
    Field::VlanPcp.set_mask(&mut mask, 7);
    assert_eq!(mask.vlan_tci, [0xff, 0xff]);
}

#[test]
fn tos_forms() {
    let mut key = Key::ZERO;
    Field::NwTos.set(&mut key, 0xb8);
    Field::NwEcn.set(&mut key, 2);
    assert_eq!(key.nw_tos, 0xba);
    assert_eq!(Field::IpDscp.get(&key), 0x2e);
    assert_eq!(Field::NwTos.get(&key), 0xb8);
    assert!(Field::NwTos.check(&Value::from(0xb9)).is_err());
    assert!(Field::IpDscp.check(&Value::from(0x40)).is_err());
}

#[test]
fn port_forms() {
    let mut key = Key::ZERO;
    Field::InPort.set(&mut key, 0xfffe);
    assert_eq!(Field::InPortOxm.get(&key), 0xffff_fffe);
    Field::InPortOxm.set(&mut key, 0xffff_fffd);
    assert_eq!(Field::InPort.get(&key), 0xfffd);
    Field::InPortOxm.set(&mut key, 3);
    assert_eq!(Field::InPort.get(&key), 3);
    assert!(Field::InPortOxm.check(&Value::from(0x1_0000)).is_err());
}

#[test]
fn values_out_of_range_are_refused() {
    assert!(Field::VlanVid.check(&Value::from(0x2000)).is_err());
    assert!(Field::ArpOp.check(&Value::from(0x100)).is_err());
    assert!(Field::CtState.check(&Value::from(0x100)).is_err());
    assert!(Field::TunMetadata0.check(&Value::ones(992)).is_ok());
    assert!(Field::TunMetadata0.check(&Value::ones(993)).is_err());
}

#[test]
fn no_row_panics() {
    for field in Field::ALL {
        let mut key = Key::ZERO;
        field.set(&mut key, u128::MAX);
        field.set_mask(&mut key, u128::MAX);
        let _ = (field.get(&key), field.mask(&key), field.check(&Value::ones(1024)));
        let mut mask = Key::ZERO;
        field.unwildcard(&mut mask);
        assert!(field.tun_metadata_number().is_some() || field.mask(&mask) == field.exact(), "{field}");
        assert!(mask != Key::ZERO);
    }
}

proptest! {
    /// A value that passes the check comes back, and nothing else of the key changes when it is set again to what it was.
    #[test]
    fn every_row_round_trips(n in 0..Field::ALL.len(), value: u128, noise: [u8; 32]) {
        let field = Field::ALL[n];
        let mut key = Key::ZERO;
        for (i, byte) in zerocopy::IntoBytes::as_mut_bytes(&mut key).iter_mut().enumerate() {
            *byte = noise[i % 32];
        }
        let value = value & field.exact();
        prop_assume!(field.tun_metadata_number().is_none() && field.check(&Value::from(value)).is_ok());
        field.set(&mut key, value);
        prop_assert_eq!(field.get(&key), value, "{}", field);
        let mut mask = Key::ZERO;
        let bits = if field.row().mask == MaskKind::Exact { field.exact() } else { value };
        field.set_mask(&mut mask, bits);
        prop_assert_eq!(field.mask(&mask), bits, "{}", field);
        let again = key;
        field.set(&mut key, value);
        prop_assert!(again == key, "{}", field);
    }

    #[test]
    fn long_values_are_numbers(bytes in proptest::collection::vec(any::<u8>(), 0..160)) {
        let value = Value::from_be_bytes(&bytes);
        let tail = &bytes[bytes.len().saturating_sub(128)..];
        prop_assert_eq!(&value.to_be_bytes()[128 - tail.len()..], tail);
        prop_assert_eq!(&Value::from_be_bytes(&value.to_be_bytes()), &value);
        prop_assert_eq!(value.and(&Value::ones(1024)), value);
    }
}
