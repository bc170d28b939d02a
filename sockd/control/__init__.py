"""The control socket: its commands, its server and its client, and the status that it reports."""
