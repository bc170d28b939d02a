"""line-log: each line that arrives becomes one record of a file."""
