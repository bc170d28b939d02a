"""The `sockd` command: its subcommands, and how they show what a daemon answers."""
