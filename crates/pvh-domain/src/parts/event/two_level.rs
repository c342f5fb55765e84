//! The two-level ABI: a pending and a mask bit for each port in `shared_info`, a selector in each
//! `vcpu_info`.
//!
//! The number of ports depends on the width of `shared_info`, which the guest may change at any
//! time: it is looked at on each use, and a port past it has no bits.

use super::Delivery;
use crate::parts::shared_info::word_bits;

/// Raises the event of a port for a vCPU; tells whether it was not pending before.
pub(super) fn raise(delivery: &mut Delivery<'_>, port: u32, vcpu: u32) -> bool {
    let Some(pending) = delivery.shared_info.pending_word(port) else {
        return false;
    };
    if !pending.set_bit(delivery.memory, port % 32) {
        return false;
    }
    tell(delivery, port, vcpu);
    true
}

/// Tells the vCPU of a port that has become pending, unless the port is masked.
#[inline(never)]
fn tell(delivery: &mut Delivery<'_>, port: u32, vcpu: u32) {
    if !is_masked(delivery, port) {
        select(delivery, port, vcpu);
    }
}

/// Clears the mask bit of a port; if it was set and the event is pending, the vCPU is told.
pub(super) fn unmask(delivery: &mut Delivery<'_>, port: u32, vcpu: u32) {
    let mask = delivery.shared_info.mask_word(port);
    let was_masked = mask.is_some_and(|word| word.clear_bit(delivery.memory, port % 32));
    if was_masked && is_pending(delivery, port) {
        select(delivery, port, vcpu);
    }
}

pub(super) fn clear_pending(delivery: &Delivery<'_>, port: u32) {
    if let Some(word) = delivery.shared_info.pending_word(port) {
        word.clear_bit(delivery.memory, port % 32);
    }
}

pub(super) fn is_pending(delivery: &Delivery<'_>, port: u32) -> bool {
    let word = delivery.shared_info.pending_word(port);
    word.is_some_and(|word| word.has_bit(delivery.memory, port % 32))
}

fn is_masked(delivery: &Delivery<'_>, port: u32) -> bool {
    let word = delivery.shared_info.mask_word(port);
    word.is_none_or(|word| word.has_bit(delivery.memory, port % 32))
}

/// Sets the selector bit of a port's word; if it was clear, the upcall flag too.
fn select(delivery: &mut Delivery<'_>, port: u32, vcpu: u32) {
    let (memory, shared_info) = (delivery.memory, delivery.shared_info);
    let bits = word_bits(shared_info.width());
    let word = port.checked_div(bits).unwrap_or(0);
    let infos = delivery.vcpu_infos;
    if infos.select(memory, shared_info, vcpu, word) {
        delivery.upcall(vcpu);
    }
}
