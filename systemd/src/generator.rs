//! What the boot-time generator emits.
