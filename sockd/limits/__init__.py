"""Whom an endpoint serves, and how much. No IO; times are passed in."""
