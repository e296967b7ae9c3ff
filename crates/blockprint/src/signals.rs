//! SIGINT, SIGTERM and SIGHUP ask the work to stop; a second one ends the program at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{LazyLock, OnceLock};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// Which signal came, 0 for none.
static RECEIVED: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// The flag that becomes true when the work should stop. The handlers are set at the first call.
pub(crate) fn cancel_flag() -> Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    let flag = FLAG.get_or_init(|| {
        let flag: Arc<AtomicBool> = Arc::default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // Only fails for signals that cannot be handled. The order matters: the first signal finds the
            // flag unset and sets it, the second one finds it set.
            let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag));
            let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
            let _ =
                signal_hook::flag::register_usize(signal, Arc::clone(&RECEIVED), signal as usize);
        }
        flag
    });
    Arc::clone(flag)
}

/// The signal that came, if one did.
pub(crate) fn received() -> Option<u8> {
    u8::try_from(RECEIVED.load(Ordering::Relaxed)).ok().filter(|&signal| signal != 0)
}
