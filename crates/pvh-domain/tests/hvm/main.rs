//! `hvm_op`: each parameter's rights and values, the upcall vectors, and the sub-operations beside
//! them.

mod calls;
mod params;
