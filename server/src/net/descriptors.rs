//! File descriptors: every connection takes one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are not connections: listeners, the database, logs, the runtimes' own.
const OTHERS: u64 = 64;

/// Raises the process's own limit as far as the system lets it: shells and service managers start programs with
/// room for a thousand, which is a hall half full. Says so if it is still too low for `connections`.
pub fn raise_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    let now = if raised.is_ok() { limit.maximum } else { limit.current };
    let wanted = connections as u64 + OTHERS;
    if let Some(now) = now
        && now < wanted
    {
        tracing::warn!(
            limit = now,
            wanted,
            "the system's limit of open files is lower than MAX_CONNECTIONS needs: connections beyond it will fail"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_as_high_as_it_can_be() {
        raise_limit(0);
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
