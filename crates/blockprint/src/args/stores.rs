//! The stores behind an index, for each command that reads images.

use std::ffi::OsString;

use clap::Args;
use engine::stores::{StoreLocation, Stores};

/// Where the chunks of an index come from.
#[derive(Debug, Args)]
pub(crate) struct StoresArgs {
    /// A chunk store behind an index: a folder, or A|B where both hold the same (may be repeated, asked in order)
    /// [default: CASYNC_STORE, else default.castr beside the index or here]
    #[arg(short, long, value_name = "STORE")]
    pub(crate) store: Vec<OsString>,
    /// A store that is asked first and keeps what is fetched; made if it is not there
    #[arg(short, long, value_name = "STORE")]
    pub(crate) cache: Option<OsString>,
}

impl From<StoresArgs> for Stores {
    fn from(args: StoresArgs) -> Self {
        Stores {
            sources: args.store.into_iter().map(StoreLocation::from).collect(),
            cache: args.cache.map(StoreLocation::from),
            ..Stores::default()
        }
    }
}
