//! Where packets enter and leave.
