"""Datagram ports: batches in, batches out."""
