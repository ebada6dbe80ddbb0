//! Reading and writing parts of fields, with what that means for the mask.

use super::Ctx;
use super::trace::Kind;
use flow::fields::{Field, TunnelOptions, Value};
use flow::key::{Key, Mask};
use openflow::action::Subfield;

/// Whether the packet has the field, so that it may be read or written; what decides that goes into the mask.
impl Ctx<'_> {
    pub(super) fn has_field(&mut self, field: Field) -> bool {
        let need = field.row().need;
        need.unwildcard(&self.key, &mut self.mask);
        need.holds(&self.key)
    }

    /// The value of a part of a field; its bits go into the mask. Zero where the packet does not have it.
    pub(super) fn read(&mut self, part: Subfield) -> u128 {
        if !self.has_field(part.field) {
            return 0;
        }
        self.unwildcard(part);
        self.value(part)
    }

    /// The value of a part of a field.
    pub(super) fn value(&self, part: Subfield) -> u128 {
        match part.field.tun_metadata_number() {
            Some(n) => {
                let whole = self.bridge.tunnel_options.get(&self.key, n);
                whole.shifted_right(part.ofs.into()).and(&Value::ones(part.bits.into())).low()
            }
            None => part.field.get(&self.key) >> part.ofs & Value::ones(usize::from(part.bits)).low(),
        }
    }

    /// Adds the bits of a part of a field to the mask.
    pub(super) fn unwildcard(&mut self, part: Subfield) {
        unwildcard_in(&self.bridge.tunnel_options, &mut self.mask, part);
    }

    /// Sets a part of a field, if the packet has it.
    pub(super) fn write(&mut self, part: Subfield, value: u128) -> bool {
        if !self.has_field(part.field) {
            return false;
        }
        self.unwildcard(part);
        self.write_unseen(part, value);
        true
    }

    /// Sets a part of a field without a word in the mask: what decides its value is not in the key.
    pub(super) fn write_unseen(&mut self, part: Subfield, value: u128) {
        set_in(&self.bridge.tunnel_options, &mut self.key, part, value);
        unwildcard_in(&self.bridge.tunnel_options, &mut self.written, part);
    }

    /// Tells the trace what a part of a field has become.
    pub(super) fn report_value(&mut self, part: Subfield) {
        if self.trace.is_none() {
            return;
        }
        let text = flow::oftext::Subfield { field: part.field, start: part.ofs, bits: part.bits };
        let value = Value::from(self.value(part));
        let shown = if part.ofs == 0 && part.bits >= part.field.row().bits {
            flow::oftext::format_value(part.field, &value, None, &flow::forms::NoNames)
        } else {
            if value.is_zero() { "0".to_owned() } else { format!("{value:#x}") }
        };
        self.report(Kind::Detail, format_args!("{text} is now {shown}"));
    }
}

/// Adds the bits of a part of a field to a mask; of a tunnel option also whether it is there.
pub(super) fn unwildcard_in(options: &TunnelOptions, mask: &mut Mask, part: Subfield) {
    match part.field.tun_metadata_number() {
        Some(n) => {
            let bits = Value::ones(part.bits.into()).shifted_left(part.ofs.into());
            options.set(mask, n, &options.get(mask, n).or(&bits));
        }
        None => {
            let bits = Value::ones(usize::from(part.bits)).low() << part.ofs;
            let all = part.field.mask(mask) | bits;
            part.field.set_mask(mask, all);
        }
    }
}

/// Sets a part of a field; a tunnel option that was not there is then.
pub(super) fn set_in(options: &TunnelOptions, key: &mut Key, part: Subfield, value: u128) {
    match part.field.tun_metadata_number() {
        Some(n) => {
            let bits = Value::ones(part.bits.into()).shifted_left(part.ofs.into());
            let value = Value::from(value).shifted_left(part.ofs.into()).and(&bits);
            options.set(key, n, &options.get(key, n).without(&bits).or(&value));
        }
        None => {
            let bits = Value::ones(usize::from(part.bits)).low() << part.ofs;
            let old = part.field.get(key);
            part.field.set(key, old & !bits | value << part.ofs & bits);
            super::vlan::complete_tag(key);
        }
    }
}
