//! The edge of the service against what others do to it: readers of the log
//! that stop, clients that are slow, hostile or gone, pages of other sites.

mod browsers;
mod cheap;
mod early;
mod half_close;
mod log;
mod wire;
