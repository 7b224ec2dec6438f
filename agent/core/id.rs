//! What tells boards apart.

/// A member of the group. Never 0, never used twice.
pub type NodeId = u64;

/// An X25519 public key.
pub type PublicKey = [u8; 32];
