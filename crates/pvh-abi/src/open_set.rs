//! The macro that declares open sets of ABI numbers.

/// Declares an ABI number as a newtype with named constants. The set is open: unknown values are
/// kept.
macro_rules! open_set {
    (
        $(#[$meta:meta])*
        $name:ident: $int:ty {
            $( $(#[$item_meta:meta])* $item:ident = $value:expr, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
        pub struct $name(pub $int);

        impl $name {
            $( $(#[$item_meta])* pub const $item: Self = Self($value); )*

            /// Returns the name of this value, or `None` for one the ABI does not name.
            #[must_use]
            pub const fn name(self) -> Option<&'static str> {
                match self {
                    $( Self::$item => Some(stringify!($item)), )*
                    _ => None,
                }
            }
        }
    };
}

pub(crate) use open_set;
