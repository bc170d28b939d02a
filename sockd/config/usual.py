"""Where the file is that nobody named."""

FILE = "/etc/sockd/sockd.yaml"
