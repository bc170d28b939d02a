"""The process that the daemon is: its directories, its rights and its reactor."""
