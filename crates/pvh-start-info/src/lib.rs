//! start-info
