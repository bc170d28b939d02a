"""What the file comes to once every name is looked up, and how two such plans differ."""
