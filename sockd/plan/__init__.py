"""What the file amounts to once every name is resolved, and how two such plans differ."""
