//! Which cores there are, and a thread bound to each.

use std::cell::Cell;

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

/// The index, from 0, of the core that the calling thread serves. Threads that serve none are counted to core 0.
pub fn current() -> usize {
    CURRENT.get()
}

/// Makes the calling thread the one of core `index`, and binds it to the `index`th processor that the process may
/// run on. A system that does not allow it runs all the same, only less evenly.
pub fn claim(index: usize) {
    CURRENT.set(index);
    let bound = core_affinity::get_core_ids()
        .and_then(|ids| ids.get(index).copied())
        .is_some_and(core_affinity::set_for_current);
    if !bound {
        tracing::debug!(core = index, "this thread is not bound to a core");
    }
}
