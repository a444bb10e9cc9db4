//! Macro for configuration mappings: one table of keys, types and defaults generates the struct, its decoder and its
//! printer.

/// A mapping whose keys are all optional: the struct, its defaults, how it is read and shown, from one table.
macro_rules! section {
    ($(#[$doc:meta])* $name:ident { $($(#[$key_doc:meta])* $key:ident: $type:ty = $default:expr;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[$key_doc])* pub $key: $type,)* }

        impl $name {
            /// Keys of this mapping.
            pub const KEYS: &[&str] = &[$(stringify!($key)),*];
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl $crate::config::decode::Setting for $name {
            fn decode(
                node: &$crate::config::node::Node,
                context: &mut $crate::config::decode::Context<'_>,
            ) -> Option<Self> {
                let fields = $crate::config::decode::Fields::open(node, Self::KEYS, context)?;
                Some(Self { $($key: fields.take(stringify!($key), || $default, context),)* })
            }
            $crate::config::rows::show_fields!($($key)*);
        }

        $crate::config::rows::serialize_as_shown!($name);
    };
}

/// A mapping with required keys (`key: Type;`) before optional ones (`key: Type = default;`).
macro_rules! row {
    ($(#[$doc:meta])* $name:ident {
        $($(#[$must_doc:meta])* $must:ident: $must_type:ty;)+
        --
        $($(#[$key_doc:meta])* $key:ident: $type:ty = $default:expr;)*
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $($(#[$must_doc])* pub $must: $must_type,)+ $($(#[$key_doc])* pub $key: $type,)* }

        impl $name {
            /// Keys of this mapping.
            pub const KEYS: &[&str] = &[$(stringify!($must),)+ $(stringify!($key)),*];

            /// One with defaults for everything that isn't required.
            #[must_use]
            pub fn new($($must: $must_type),+) -> Self {
                Self { $($must,)+ $($key: $default,)* }
            }
        }

        impl $crate::config::decode::Setting for $name {
            fn decode(
                node: &$crate::config::node::Node,
                context: &mut $crate::config::decode::Context<'_>,
            ) -> Option<Self> {
                let fields = $crate::config::decode::Fields::open(node, Self::KEYS, context)?;
                $(let $must = fields.require(stringify!($must), context);)+
                $(let $key = fields.take(stringify!($key), || $default, context);)*
                Some(Self { $($must: $must?,)+ $($key,)* })
            }
            $crate::config::rows::show_fields!($($must)+ $($key)*);
        }

        $crate::config::rows::serialize_as_shown!($name);
    };
}

macro_rules! show_fields {
    ($($key:ident)*) => {
        fn show<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeMap;
            let mut map = serializer.serialize_map(None)?;
            $(map.serialize_entry(stringify!($key), &$crate::config::decode::Shown(&self.$key))?;)*
            map.end()
        }
    };
}

macro_rules! serialize_as_shown {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $crate::config::decode::Setting::show(self, serializer)
            }
        }
    };
}

pub(super) use {row, section, serialize_as_shown, show_fields};
