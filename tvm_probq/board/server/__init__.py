"""TVM RPC server for a board: one process a session, so that no session takes the server down.

This folder needs the standard library, numpy and TVM's runtime, nothing else of this project: it
can be copied to a board alone and run as ``python server``, which is why its modules import each
other relatively.  TVM's own server (``python -m tvm.exec.rpc_server``) stops accepting, without a
word, after a session has died of a signal; it also listens on every interface and waits for ever
for a client that connects and says nothing.
"""
