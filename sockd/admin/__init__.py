"""Between the daemon and those who watch and steer it: systemd, and the sockd command."""
