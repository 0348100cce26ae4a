//! Which cores there are, and a thread bound to each.

use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
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
