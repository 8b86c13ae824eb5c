//! One static library with azure_dps_c and other Rust code. It uses std, which has a panic handler.

// Without this line, rustc omits azure_dps_c.
use azure_dps_c as _;

mod other;
