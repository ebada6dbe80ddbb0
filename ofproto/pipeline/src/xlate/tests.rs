//! Translation against OVS's own.
