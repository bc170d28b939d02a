"""How bytes reach us: sockets opened as the file says, connections, datagrams."""
