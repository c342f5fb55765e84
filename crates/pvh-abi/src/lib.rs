#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

pub mod address;
pub mod elfnote;
pub mod start_info;

pub use address::Gpa;
