"""Where line-log's records go."""
