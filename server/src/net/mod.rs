//! Sockets, cores and the threads that serve them.
//!
//! - [`cores`]: which cores there are, and a thread bound to each
//! - [`descriptors`]: the limit of open files
//! - [`listen`]: the listening sockets, one per core on the same port
//! - [`stream`]: an accepted connection
//! - [`serve`]: HTTP on an accepted connection

pub mod cores;
pub mod descriptors;
pub mod listen;
pub mod serve;
pub mod stream;
