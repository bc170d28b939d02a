"""echo: the same bytes back."""
