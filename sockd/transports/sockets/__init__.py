"""How a listening socket of each family is opened and tuned; a new family is a module here."""
