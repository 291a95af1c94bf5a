"""Ports that were free a moment ago. Somebody else may take one before its server does; the server then says so."""

import socket

_given = set()


def free():
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        if port not in _given:
            _given.add(port)
            return port
