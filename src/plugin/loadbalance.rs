//! loadbalance
