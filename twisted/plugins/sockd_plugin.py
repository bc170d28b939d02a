"""Announces sockd to twistd; imports nothing of sockd, as every twistd command imports this module."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

sockd = ServiceMaker(
    "sockd",
    "sockd.tap",
    "Echo, chat, line-log and more over TCP, UDP and Unix sockets, from one YAML file",
    "sockd",
)

sockd_reactor = Reactor(
    "sockd", "sockd.process.reactor", "epoll(7) with less work for each event; `sockd run` uses it"
)
