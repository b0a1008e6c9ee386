//! The two macros that make records of flatc's types.
//!
//! Owns: [`crate::table_record`], [`crate::struct_record`]. Invariant: the implementations verify with flatc's own
//! verifier (tables) or by length (structs, in which any bytes are a value).

/// Makes a record of a FlatBuffers table: `table_record!(Bid);` for the generated `Bid<'a>`.
#[macro_export]
macro_rules! table_record {
    ($table:ident) => {
        // SAFETY: `verify` is the FlatBuffers verifier for this very table, and `view` reads what passed it.
        unsafe impl $crate::private::Record for $table<'static> {
            type View<'a> = $table<'a>;
            const NAME: &'static str = stringify!($table);

            fn verify(bytes: &[u8]) -> ::std::result::Result<(), ::std::string::String> {
                match $crate::private::flatbuffers::root::<$table<'_>>(bytes) {
                    Ok(_) => Ok(()),
                    Err(error) => Err($crate::private::one_line(&error)),
                }
            }

            #[inline]
            unsafe fn view(bytes: &[u8]) -> $table<'_> {
                // SAFETY: the caller's: these bytes passed `verify` or came from this table's builder.
                unsafe { $crate::private::flatbuffers::root_unchecked::<$table<'_>>(bytes) }
            }
        }
    };
}

/// Makes a record of a FlatBuffers struct: `struct_record!(AuctionPrice);` for the generated `AuctionPrice`.
#[macro_export]
macro_rules! struct_record {
    ($name:ident) => {
        // SAFETY: a FlatBuffers struct is a byte array of which every value is legal; `verify` checks the length, and
        // `view` copies exactly so many bytes.
        unsafe impl $crate::private::Record for $name {
            type View<'a> = Self;
            const NAME: &'static str = stringify!($name);

            fn verify(bytes: &[u8]) -> ::std::result::Result<(), ::std::string::String> {
                let expected = ::std::mem::size_of::<Self>();
                if bytes.len() == expected {
                    Ok(())
                } else {
                    Err(::std::format!(
                        "a {} has {expected} bytes, not {}",
                        stringify!($name),
                        bytes.len()
                    ))
                }
            }

            #[inline]
            unsafe fn view(bytes: &[u8]) -> Self {
                let mut value = <Self as ::std::default::Default>::default();
                value.0.copy_from_slice(bytes);
                value
            }
        }

        impl $crate::private::StructRecord for $name {
            #[inline]
            fn as_bytes(&self) -> &[u8] {
                &self.0
            }
        }
    };
}
