//! Kernel images of every kind, valid and broken.
#[cfg(test)]
mod advice;
#[cfg(test)]
mod basic;
#[cfg(test)]
mod follow;
#[cfg(test)]
mod inspect;
#[cfg(test)]
mod kernels;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod lzop;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod pack;
#[cfg(test)]
mod regression;

/// Where [`pack::bzimage`] puts the payload: (2 + 1) * 512 + 0x2cc.
#[cfg(test)]
const PAYLOAD_AT: usize = 0x8cc;
