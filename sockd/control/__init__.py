"""The control socket: its server, its language, its client, and the status it reports."""
