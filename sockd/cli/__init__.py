"""The `sockd` command: its words, and how it prints what a daemon answers."""
