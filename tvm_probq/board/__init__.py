"""Running artefacts on a board over TVM RPC: the board's server, and a client with deadlines."""
