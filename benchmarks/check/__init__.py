"""Counts the system calls and instructions of each unit of work, and compares them with recorded bounds."""
