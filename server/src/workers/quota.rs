//! How much each user may ask of the workers.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::limits::{MAX_TASKS_OF_USER, MAX_USERS, USER_BURST, USER_TASKS_PER_S};
use super::task::TaskError;

/// The users who have asked for something of late.
#[derive(Debug, Default)]
pub(super) struct Quota(Mutex<Users>);

#[derive(Debug, Default)]
struct Users {
    by_id: HashMap<Arc<str>, Allowance>,
    /// The same users, in the order in which they came.
    oldest: VecDeque<Arc<str>>,
}

#[derive(Debug)]
struct Allowance {
    /// Tasks that may be asked for now.
    left: f64,
    as_of: Instant,
    under_way: u32,
}

/// One task of a user that is under way, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    quota: Arc<Quota>,
    user: Arc<str>,
}

impl Quota {
    /// Takes a place for one more task of `user`.
    ///
    /// # Errors
    /// [`TaskError::RateLimited`] or [`TaskError::TooManyAtOnce`].
    pub(super) fn take(self: &Arc<Self>, user: &str, now: Instant) -> Result<Place, TaskError> {
        let mut users = self.users();
        if !users.by_id.contains_key(user) {
            users.make_room();
        }
        let user: Arc<str> = user.into();
        let is_new = !users.by_id.contains_key(&user);
        if is_new {
            users.oldest.push_back(user.clone());
        }
        let allowance = match users.by_id.entry(user.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                entry.insert(Allowance { left: f64::from(USER_BURST), as_of: now, under_way: 0 })
            }
        };
        allowance.spend(now)?;
        drop(users);
        Ok(Place { quota: self.clone(), user })
    }

    fn users(&self) -> MutexGuard<'_, Users> {
        // Nothing that holds this lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allowance {
    fn spend(&mut self, now: Instant) -> Result<(), TaskError> {
        let passed = now.saturating_duration_since(self.as_of).as_secs_f64();
        self.left = (self.left + passed * f64::from(USER_TASKS_PER_S)).min(f64::from(USER_BURST));
        self.as_of = now;
        if self.under_way >= MAX_TASKS_OF_USER {
            return Err(TaskError::TooManyAtOnce);
        }
        if self.left < 1.0 {
            return Err(TaskError::RateLimited);
        }
        self.left -= 1.0;
        self.under_way += 1;
        Ok(())
    }
}

impl Users {
    /// Forgets whoever has been known longest and asks for nothing now, if there are too many.
    fn make_room(&mut self) {
        // Each is looked at once at most: fewer tasks are under way at any time than users are remembered.
        for _ in 0..self.oldest.len() {
            if self.by_id.len() < MAX_USERS {
                return;
            }
            let Some(user) = self.oldest.pop_front() else { return };
            if self.by_id.get(&user).is_some_and(|allowance| allowance.under_way > 0) {
                self.oldest.push_back(user);
            } else {
                self.by_id.remove(&user);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(allowance) = self.quota.users().by_id.get_mut(&self.user) {
            allowance.under_way = allowance.under_way.saturating_sub(1);
        }
    }
}

const _: () = assert!(super::limits::MAX_TASKS < MAX_USERS);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_user_has_so_many_tasks_at_once() {
        let (quota, now) = (Arc::new(Quota::default()), Instant::now());
        let mut places: Vec<_> = (0..MAX_TASKS_OF_USER).map(|_| quota.take("ada", now).unwrap()).collect();
        assert_eq!(quota.take("ada", now).unwrap_err(), TaskError::TooManyAtOnce);
        assert!(quota.take("bob", now).is_ok(), "somebody else");
        places.pop();
        assert!(quota.take("ada", now).is_ok());
    }

    #[test]
    fn a_user_has_so_many_tasks_in_a_time() {
        let (quota, now) = (Arc::new(Quota::default()), Instant::now());
        for _ in 0..USER_BURST {
            drop(quota.take("ada", now).unwrap());
        }
        assert_eq!(quota.take("ada", now).unwrap_err(), TaskError::RateLimited);
        let later = now + Duration::from_secs(1);
        for _ in 0..USER_TASKS_PER_S {
            drop(quota.take("ada", later).unwrap());
        }
        assert_eq!(quota.take("ada", later).unwrap_err(), TaskError::RateLimited);
    }

    #[test]
    fn only_so_many_users_are_remembered_and_none_with_a_task() {
        let (quota, now) = (Arc::new(Quota::default()), Instant::now());
        let ada = quota.take("ada", now).unwrap();
        for index in 0..MAX_USERS + 5 {
            drop(quota.take(&index.to_string(), now).unwrap());
        }
        let users = quota.users();
        assert_eq!((users.by_id.len(), users.oldest.len()), (MAX_USERS, MAX_USERS));
        assert_eq!(users.by_id["ada"].under_way, 1);
        drop(users);
        drop(ada);
        assert_eq!(quota.users().by_id["ada"].under_way, 0);
    }
}
