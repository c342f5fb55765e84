//! The ELF structures as they lie in the file (System V ABI, chapters 4 and 5), little endian.

use core::mem::offset_of;

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U16, U32, U64},
};

#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct Ident {
    pub(crate) magic: [u8; 4],
    pub(crate) class: u8,
    pub(crate) data: u8,
    pub(crate) rest: [u8; 10],
}

const _: () = assert!(size_of::<Ident>() == 16);

#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct Header32 {
    pub(crate) ident: Ident,
    pub(crate) kind: U16,
    pub(crate) machine: U16,
    pub(crate) version: U32,
    pub(crate) entry: U32,
    pub(crate) segments_offset: U32,
    pub(crate) sections_offset: U32,
    pub(crate) flags: U32,
    pub(crate) header_size: U16,
    pub(crate) segment_size: U16,
    pub(crate) segment_count: U16,
    pub(crate) section_size: U16,
    pub(crate) section_count: U16,
    pub(crate) names_index: U16,
}

const _: () = assert!(size_of::<Header32>() == 52 && offset_of!(Header32, segment_size) == 42);

#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct Header64 {
    pub(crate) ident: Ident,
    pub(crate) kind: U16,
    pub(crate) machine: U16,
    pub(crate) version: U32,
    pub(crate) entry: U64,
    pub(crate) segments_offset: U64,
    pub(crate) sections_offset: U64,
    pub(crate) flags: U32,
    pub(crate) header_size: U16,
    pub(crate) segment_size: U16,
    pub(crate) segment_count: U16,
    pub(crate) section_size: U16,
    pub(crate) section_count: U16,
    pub(crate) names_index: U16,
}

const _: () = assert!(size_of::<Header64>() == 64 && offset_of!(Header64, segment_size) == 54);

#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct Segment32 {
    pub(crate) kind: U32,
    pub(crate) offset: U32,
    pub(crate) vaddr: U32,
    pub(crate) paddr: U32,
    pub(crate) file_size: U32,
    pub(crate) mem_size: U32,
    pub(crate) flags: U32,
    pub(crate) align: U32,
}

const _: () = assert!(size_of::<Segment32>() == 32 && offset_of!(Segment32, flags) == 24);

#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct Segment64 {
    pub(crate) kind: U32,
    pub(crate) flags: U32,
    pub(crate) offset: U64,
    pub(crate) vaddr: U64,
    pub(crate) paddr: U64,
    pub(crate) file_size: U64,
    pub(crate) mem_size: U64,
    pub(crate) align: U64,
}

const _: () = assert!(size_of::<Segment64>() == 56 && offset_of!(Segment64, file_size) == 32);

#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct Section32 {
    pub(crate) name: U32,
    pub(crate) kind: U32,
    pub(crate) flags: U32,
    pub(crate) addr: U32,
    pub(crate) offset: U32,
    pub(crate) size: U32,
    pub(crate) link: U32,
    pub(crate) info: U32,
    pub(crate) align: U32,
    pub(crate) entry_size: U32,
}

const _: () = assert!(size_of::<Section32>() == 40 && offset_of!(Section32, size) == 20);

#[derive(Clone, Copy, FromBytes, Immutable, IntoBytes, KnownLayout)]
#[repr(C)]
pub(crate) struct Section64 {
    pub(crate) name: U32,
    pub(crate) kind: U32,
    pub(crate) flags: U64,
    pub(crate) addr: U64,
    pub(crate) offset: U64,
    pub(crate) size: U64,
    pub(crate) link: U32,
    pub(crate) info: U32,
    pub(crate) align: U64,
    pub(crate) entry_size: U64,
}

const _: () = assert!(size_of::<Section64>() == 64 && offset_of!(Section64, size) == 32);
