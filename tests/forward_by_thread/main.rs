//! The tests of `forward` once more, of what a datagram's client meets: the question is asked by the
//! thread that took it, which has no scheduler. See `thread` for that thread.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![cfg(target_os = "linux")]

#[path = "../forward/answers.rs"]
mod answers;
#[path = "../forward/choice.rs"]
mod choice;
#[path = "../forward/health.rs"]
mod health;
#[path = "../forward/icmp.rs"]
mod icmp;
#[path = "../forward/loops.rs"]
mod loops;
#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../forward/served.rs"]
mod served;
#[path = "../forward/sources.rs"]
mod sources;
mod thread;
#[path = "../forward/trouble.rs"]
mod trouble;
#[allow(dead_code, reason = "other tests use the rest of it")]
#[path = "../forward/upstream.rs"]
mod upstream;
