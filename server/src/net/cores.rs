//! Which cores there are, and a thread bound to each.

use std::cell::Cell;
use std::thread;
use std::time::Duration;

/// How long a core that has taken poses lets more of them come before it looks again. To be woken for each costs more
/// than to read it, and they wait for the next tick anyway; a millisecond is a fiftieth of that.
const GATHERING: Duration = Duration::from_millis(1);

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    /// Poses have come since the core last had nothing to do.
    static HAS_POSES: Cell<bool> = const { Cell::new(false) };
}

/// A pose has come on this core.
pub fn note_pose() {
    HAS_POSES.set(true);
}

/// Called by a core that has nothing to do, before it waits for the system: lets poses gather if any have come. Whoever
/// sends none (and a server on which nobody moves) is answered as soon as ever.
pub fn gather() {
    if HAS_POSES.replace(false) {
        thread::sleep(GATHERING);
    }
}

/// The index, from 0, of the core that the calling thread serves. Threads that serve none are counted to core 0.
pub fn current() -> usize {
    CURRENT.get()
}

/// Makes the calling thread the one of core `index` of `count`, and binds it to a processor of its own.
///
/// It is bound only if there are as many cores as processors that the process may run on. With fewer (a container's
/// share of a large machine, say) each such process would choose the same first processors and leave the others
/// idle; the system's scheduler sees further. A system that does not allow it runs all the same, only less evenly.
pub fn claim(index: usize, count: usize) {
    CURRENT.set(index);
    let processors = core_affinity::get_core_ids().unwrap_or_default();
    let own = if processors.len() == count { processors.get(index).copied() } else { None };
    if !own.is_some_and(core_affinity::set_for_current) {
        tracing::debug!(core = index, "this thread is not bound to a processor");
    }
}
