"""Sockets made, set up, bound and ready before anybody can use them."""

import errno
import os
import socket
import stat
from contextlib import contextmanager
from collections.abc import Iterator

from sockd.addresses import Address, Kind
from sockd.errors import SockdError
from sockd.plan import SocketOptions
