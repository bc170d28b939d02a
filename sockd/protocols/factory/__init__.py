"""factory: hosts what others wrote for Twisted, by the name of a callable."""
