"""``python server``: serve, wherever the folder was copied to."""

import importlib
import sys
from pathlib import Path

if __name__ == "__main__":
    folder = Path(__file__).resolve().parent
    package = __package__ or folder.name
    if not __package__:
        # Run as a folder: it becomes a package, so that its modules find each other.
        sys.path[0] = str(folder.parent)
    sys.exit(importlib.import_module(f"{package}.command").main())
