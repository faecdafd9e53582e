//! What a person types.

pub mod lab;
