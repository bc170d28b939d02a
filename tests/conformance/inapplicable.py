"""Which of Twisted's tests can't hold for sockd, and why: by the reactor that they are run with."""

_CLOSED = "epoll(7) doesn't tell of a socket that was closed; Twisted skips it by the name of EPollReactor"
_CONTEXT = (
    "`logs_nothing`: no log context is set for each event; sockd's own lines say which endpoint they are of"
)
_OURS = "it is Twisted's listening port that is tested"
_FULL = "without descriptors newcomers wait in the backlog; Twisted accepts and closes them"
_INNER = "it looks at what no interface names: sessionno, logstr, stopReading"
_TLS = "startTLS is not offered"
_NO_CONTEXTS = (
    "contexts are made of a plan, long before a connection; Twisted's factories of them aren't asked"
)
_UNSHAKEN = "one end leaves, or stops to read, before the handshake is done: there is no protocol at sockd's"
_ABORTS = "Twisted's end is told of the connection before the handshake; to close it then is to abort it"
_DESCRIPTORS = "descriptors are not passed over Unix sockets (IUNIXTransport)"
_ZONE = "the zone of a link-local address is in its scopeID alone, as in Python's own"
_LINGERS = "it reads on for the peer's FIN, so that what is on its way isn't lost by a reset"
_WORDS = "it is a TypeError, in Python's own words"
_CLIENTS = "sockd has no clients of its own: how names and ports are looked up isn't tested here"
_SENDS = "what the kernel takes at once is sent before a producer is paused; Twisted's waits for a turn"
_NEXT_TURN = "a pull producer is asked in the next turn; Twisted's are within registerProducer"

_EITHER = {
    "test_badContext": _TLS,
    "test_logPrefix": _CONTEXT,
    "test_avoidLeakingFileDescriptors": _DESCRIPTORS,
    "test_descriptorDeliveredBeforeBytes": _DESCRIPTORS,
    "test_fileDescriptorOverrun": _DESCRIPTORS,
    "test_sendFileDescriptor": _DESCRIPTORS,
    "test_sendFileDescriptorTriggersPauseProducing": _DESCRIPTORS,
}
_SERVERS = _EITHER | {
    "test_buildProtocolIPv6AddressScopeID": _ZONE,
    "test_closePeerOnEMFILE": _FULL,
    "test_connectionLostLogMsg": _OURS,
    "test_fullWriteBuffer": _INNER,
    "test_fullWriteBufferAfterByteExchange": _INNER,
    "test_listenFailure": _OURS,
    "test_mode": _OURS,
    "test_portGetHostOnIPv6ScopeID": _ZONE,
    "test_resumeProducingWhileDisconnecting": _LINGERS,
    "test_serverAddressTCP4": _INNER,
    "test_serverAddressTCP6": _INNER,
    "test_serverGetHostOnIPv6ScopeID": _ZONE,
    "test_serverGetPeerOnIPv6ScopeID": _ZONE,
    "test_startedListeningLogMessage": _OURS,
    "test_writeSequenceWithUnicodeRaisesException": _WORDS,
}
_CLIENT_ENDS = _EITHER | {
    "test_addresses": _CLIENTS,
    "test_closePeerOnEMFILE": _CLIENTS,
    "test_connectPortNotNumeric": _CLIENTS,
    "test_connectPortOverflow": _CLIENTS,
    "test_connectPortUnderflow": _CLIENTS,
    "test_connectPortZero": _CLIENTS,
    "test_nonStreamingProducer": _NEXT_TURN,
    "test_streamingProducer": _SENDS,
}
_INSTALLED = {
    "testPortRepr": _OURS,
    "test_cannotBind": _OURS,
    "test_directConnectionLostCall": _OURS,
    "test_exceptInConnectionLostCall": _OURS,
    "test_exceptInStop": _OURS,
    "test_pidFile": _OURS,
    "test_reprWithNewStyleFactory": _OURS,
    "test_restartAfterExcept": _OURS,
    "test_restartListening": _OURS,
    "test_serverRepr": _OURS,
    "test_socketLocking": _OURS,
    "test_uncleanServerSocketLocking": _OURS,
    "test_writeNotificationRaises": _LINGERS,
}
_TLS_EITHER = {
    "test_badContext": _NO_CONTEXTS,
    "test_disconnectAfterWriteAfterStartTLS": _TLS,
    "test_fullWriteBuffer": _UNSHAKEN,
    "test_logPrefix": _CONTEXT,
}
_TLS_SERVERS = _TLS_EITHER | {
    "test_closePeerOnEMFILE": _FULL,
    "test_connectionLostLogMsg": _OURS,
    "test_fullWriteBufferAfterByteExchange": _INNER,
    "test_resumeProducingAbort": _UNSHAKEN,
    "test_resumeProducingThrows": _UNSHAKEN,
    "test_startedListeningLogMessage": _OURS,
}
_SERVERS_OVER_TLS = {
    "test_doubleHalfClose": _UNSHAKEN,
    "test_resumeProducingWhileDisconnecting": _LINGERS,
}
_CLIENTS_OVER_TLS = {
    "test_addresses": _CLIENTS,
    "test_badContext": _TLS,
    "test_connectPortNotNumeric": _CLIENTS,
    "test_connectPortOverflow": _CLIENTS,
    "test_connectPortUnderflow": _CLIENTS,
    "test_connectPortZero": _CLIENTS,
    "test_logPrefix": _CONTEXT,
    "test_unregisterProducerAfterDisconnect": _ABORTS,
}

INAPPLICABLE: dict[str, dict[str, str]] = {
    "SockdReactor": {
        "test_lostFileDescriptor": _CLOSED,
    },
    "Servers": _SERVERS,
    "ServersInALane": _SERVERS,
    "ServersInstalled": _INSTALLED,
    "Clients": _CLIENT_ENDS,
    "Both": _SERVERS | _CLIENT_ENDS,
    "TlsServers": _TLS_SERVERS,
    "TlsServersInALane": _TLS_SERVERS,
    "TlsClients": _TLS_EITHER,
    "ServersOverTls": _SERVERS_OVER_TLS,
    "ClientsOverTls": _CLIENTS_OVER_TLS,
}
