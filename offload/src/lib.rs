//! The all-or-nothing rule (the offload issue fills this room).
