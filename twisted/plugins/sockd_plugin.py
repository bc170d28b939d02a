"""Tells twistd that there is sockd; imports nothing of ours, because every twistd command imports this."""

from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

sockd = ServiceMaker(
    "sockd",
    "sockd.tap",
    "Echo, chat, line-log and more over TCP, UDP and Unix sockets, from one YAML file",
    "sockd",
)

sockd_reactor = Reactor(
    "sockd", "sockd.process.reactor", "epoll(7), with less around each event; `sockd run` uses it"
)
