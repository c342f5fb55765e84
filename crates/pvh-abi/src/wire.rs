//! The macro that declares wire structures.

/// Declares a wire structure of little-endian fields. Its size and every offset are compared at
/// compile time with the numbers of the ABI's text.
macro_rules! wire {
    (
        $(#[$meta:meta])*
        $name:ident: $size:literal {
            $( $(#[$field_meta:meta])* $vis:vis $field:ident: $type:ty = $offset:literal, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(
            Clone,
            Copy,
            Debug,
            zerocopy::FromBytes,
            zerocopy::Immutable,
            zerocopy::IntoBytes,
            zerocopy::KnownLayout,
        )]
        #[repr(C)]
        pub struct $name {
            $( $(#[$field_meta])* $vis $field: $type, )*
        }

        const _: () = assert!(size_of::<$name>() == $size);
        $( const _: () = assert!(core::mem::offset_of!($name, $field) == $offset); )*
    };
}

pub(crate) use wire;
