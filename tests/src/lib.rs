//! Tests of the whole house: the tidy rules, the end-to-end scripts (`e2e/`), OVS's own suite (`upstream/`), the demonstration
//! (`demo/`). Tests of one room live in that room's crate.
#![forbid(unsafe_code)]
