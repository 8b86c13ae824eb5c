//! One static library with azure_dps_c and other Rust. It has std, and so a panic handler.

// Without this line, rustc leaves azure_dps_c out.
use azure_dps_c as _;

mod other;
