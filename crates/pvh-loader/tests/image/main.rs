//! Kernel images of every kind, valid and broken.
#[cfg(test)]
mod advice;
#[cfg(test)]
mod basic;
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
