"""The commands of `sockd` that talk to a running daemon."""
