//! The cluster's names, asked as `dig` asks: a question, and all that comes of it.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod config;
mod dialogue;
mod external;
mod fixture;
mod metadata;
mod multicluster;
mod names;
mod random;
mod reading;
mod records;
mod rows;
mod search;
mod transfers;
mod zonal;
mod zones;
