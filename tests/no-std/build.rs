//! Tells the linker how to link a program without std.

fn main() {
    // Neither the C start files nor, with them, a `main`: only libc's memcpy and its kin.
    println!("cargo::rustc-link-arg-bins=-nostartfiles");
    println!("cargo::rustc-link-arg-bins=-lc");
}
