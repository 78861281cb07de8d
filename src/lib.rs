//! consentd.
