//! Benchmarks of the PVH crates; the benches arrive with the load-to-entry work.
