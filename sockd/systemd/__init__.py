"""What systemd hears from the daemon, and the sockets that it keeps for it."""
