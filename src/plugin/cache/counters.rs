//! The cache's counters, one set for each server and view that asks it.
