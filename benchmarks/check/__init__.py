"""Counts what a unit of work costs sockd in system calls and instructions, beside recorded bounds."""
