//! What handles and descriptors have alike whatever their types are, written once.
//!
//! Owns: the descriptors with a name and a time to live alone, and the traits that a derive would bind to the types.
//! Invariant: no bound on a type parameter; each macro stands in the file of the type that it is for.
//! Left out: what a kind of state does.

macro_rules! descriptor {
    ($(#[$doc:meta])* $name:ident<$($type:ident),+>) => {
        $(#[$doc])*
        pub struct $name<$($type),+> {
            name: String,
            ttl: Option<$crate::state::ttl::StateTtlConfig>,
            types: std::marker::PhantomData<fn() -> ($($type,)+)>,
        }

        impl<$($type),+> $name<$($type),+> {
            /// A state of this name, which no other state of the operator has. Snapshots find it by its name.
            #[must_use]
            pub fn new(name: impl Into<String>) -> Self {
                Self { name: name.into(), ttl: None, types: std::marker::PhantomData }
            }

            /// Has its values expire.
            #[must_use]
            pub fn enable_time_to_live(mut self, ttl: $crate::state::ttl::StateTtlConfig) -> Self {
                self.ttl = Some(ttl);
                self
            }
        }
    };
}

/// What operator state asks of a descriptor.
macro_rules! descriptor_tells {
    ($name:ident<$($type:ident),+>) => {
        impl<$($type),+> $name<$($type),+> {
            pub(crate) fn name(&self) -> &str {
                &self.name
            }

            pub(crate) fn expires(&self) -> bool {
                self.ttl.is_some()
            }
        }
    };
}

/// Copies a handle, whatever its types are.
macro_rules! handle_is_copy {
    ($name:ident<$($type:ident),+>) => {
        impl<$($type),+> Clone for $name<$($type),+> {
            fn clone(&self) -> Self {
                *self
            }
        }
        impl<$($type),+> Copy for $name<$($type),+> {}
    };
}

/// A handle that no state has been asked for yet, so that a function can be made before it opens; using it is an error.
macro_rules! handle_has_default {
    ($name:ident<$($type:ident),+> { $types:ident }) => {
        impl<$($type),+> Default for $name<$($type),+> {
            fn default() -> Self {
                Self {
                    store: $crate::state::handles::store::Store::UNREGISTERED,
                    $types: std::marker::PhantomData,
                }
            }
        }
    };
}

/// Shows a handle or descriptor whatever its types are.
macro_rules! show {
    ($($name:ident<$($type:ident),+> { $($field:ident),+ })*) => {$(
        impl<$($type),+> std::fmt::Debug for $name<$($type),+> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($field), &self.$field))+
                    .finish_non_exhaustive()
            }
        }
    )*};
}

pub(super) use {descriptor, descriptor_tells, handle_has_default, handle_is_copy, show};
