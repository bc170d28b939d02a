"""The running tree: endpoints, their supervisors, listeners and connections."""
