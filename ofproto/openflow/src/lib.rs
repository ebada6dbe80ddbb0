//! The OpenFlow codec.
