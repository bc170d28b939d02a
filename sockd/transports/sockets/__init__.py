"""How a listening socket of each family is opened and tuned."""
