//! A room full of people on a map, and some of them watched: what each is shown, tick by tick.

pub(crate) mod person;
pub(crate) mod rings;
pub(crate) mod run;
pub(crate) mod script;
pub(crate) mod small;
pub(crate) mod watch;
