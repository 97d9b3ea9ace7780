"""The command line ``tvm-probq``, one file a command."""
