"""What goes from a running sockd to the program that takes its place: one value, and the open sockets."""
