//! RunComfy.
