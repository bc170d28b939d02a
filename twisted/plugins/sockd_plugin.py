"""Tells twistd that there is sockd; imports nothing of ours, because every twistd command imports this."""

from twisted.application.service import ServiceMaker

sockd = ServiceMaker(
    "sockd",
    "sockd.tap",
    "Echo, chat, line-log and more over TCP, UDP and Unix sockets, from one YAML file",
    "sockd",
)
