"""``python -m tvm_probq``: the same as the command ``tvm-probq``."""

from __future__ import annotations

import sys

from tvm_probq.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
