//! A program without std. It is linked, not run: what it calls keeps the crates' code in it, and a
//! crate that needed std would bring a second panic handler, which the compiler refuses.
//!
//! `unsafe` stands here for what a program without std must bring itself: its entry symbol, a heap,
//! and a name that the unwinder would ask for.
#![no_std]
#![no_main]

extern crate alloc;

use core::{
    alloc::{GlobalAlloc, Layout},
    hint::black_box,
    panic::PanicInfo,
    ptr,
};

use pvh_abi::Gpa;
use pvh_entry::EntryState;
use pvh_hypercall::{Stub, write_msr};
use pvh_layout::{LayoutConfig, Platform};
use pvh_memory::{GuestMemory, VecMemory};
use pvh_ring::BackRing;
use pvh_start_info::{Builder, Generation};
use pvh_vcpu::{Vcpu, VcpuSet};

/// A heap that is always empty.
struct NoHeap;

// SAFETY: it never hands out memory, which GlobalAlloc allows; so nothing comes back either.
unsafe impl GlobalAlloc for NoHeap {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        ptr::null_mut()
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static HEAP: NoHeap = NoHeap;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

// SAFETY: no other symbol of this program has this name. The `alloc` that comes with the toolchain
// is built to unwind and names it; with panic = "abort" it is never called.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

// SAFETY: no other symbol of this program has this name; the C start files are not linked.
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    black_box(touch_every_crate(black_box(&[])));
    loop {}
}

fn touch_every_crate(file: &[u8]) -> Option<u64> {
    let notes = pvh_elfnote::scan(file).ok()?;
    let layout = pvh_layout::Layout::new(&LayoutConfig {
        platform: Platform::Plain,
        memory_bytes: 1 << 20,
        address_bits: 46,
        apic_ids: &[0],
    });
    let layout = layout.ok()?;
    let mut block = [0; 256];
    let at = Gpa(0x1000);
    let len = Builder::new(Generation::V1)
        .memmap(&layout.memory_map)
        .write(at, &mut block)
        .ok()?;
    let memory = VecMemory::zeroed(&[(Gpa(0), 1 << 20)]).ok()?;
    memory.write(at, block.get(..len)?).ok()?;
    let fetch = |at: Gpa, buf: &mut [u8]| memory.read(at, buf);
    let info = pvh_start_info::read(Generation::V1, at, fetch).ok()?;
    let state = EntryState::pvh(notes.require_entry().ok()?, at).ok()?;
    write_msr(at.0, Stub::Vmcall, &memory).ok()?;
    let mut ring = BackRing::attach(&memory, &[at], 16).ok()?;
    ring.take(&memory, &mut block).ok()?;
    let mut vcpus = VcpuSet::new([Vcpu::RESET; 2]);
    vcpus.sipi(1, block[0]).ok()?;
    Some(
        state
            .cs
            .descriptor()
            .ok()?
            .wrapping_add(u64::from(info.flags.0)),
    )
}
