//! Answers of the `kubernetes` family of plugins: queries and complete replies, as text.

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
