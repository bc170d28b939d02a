"""Protocols: the contract for each, the registry of those installed, the three that sockd ships."""
