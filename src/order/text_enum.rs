//! Closed sets whose members have a word in the contract, the ledger or operators' views.

macro_rules! text_enum {
    ($set:ident { $($variant:ident = $text:literal,)* }) => {
        impl $set {
            /// All of them.
            pub const ALL: &[$set] = &[$($set::$variant,)*];

            /// The word in the contract, in the ledger and in operators' views.
            pub fn as_str(self) -> &'static str {
                match self { $($set::$variant => $text,)* }
            }

            /// The member that the word stands for.
            pub fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some($set::$variant),)* _ => None }
            }
        }
    };
}
