"""Chat: people in rooms, over any kind of address, with nothing but lines of text."""
