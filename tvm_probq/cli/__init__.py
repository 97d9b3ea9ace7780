"""The command line ``tvm-probq``, one file a command."""

import os

# One thread: sums in the same order everywhere, and no spinning against TVM on small machines.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
