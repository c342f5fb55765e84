#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

mod recorder;
mod report;

pub use recorder::{Moment, Recorded, Step, begin, mark, recorded, step};
pub use report::{json, text, trace};
