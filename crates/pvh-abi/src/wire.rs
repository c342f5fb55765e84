/// Declares a wire structure: little-endian fields, and its size and every offset held at compile time
/// against the literals of the text.
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
