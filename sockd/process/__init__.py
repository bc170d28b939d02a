"""The process that the daemon is."""
