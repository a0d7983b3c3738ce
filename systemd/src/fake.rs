//! A scriptable systemd manager on a socket pair.
