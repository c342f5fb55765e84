//! The builder and the reader, against the texts' literals and against each other.

#[cfg(test)]
mod basic;
#[cfg(test)]
mod guest;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod malformed;
#[cfg(test)]
mod refused;
#[cfg(test)]
mod regression;
#[cfg(test)]
mod roundtrip;
