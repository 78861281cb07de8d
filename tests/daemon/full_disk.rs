//! Disks that are really full.
