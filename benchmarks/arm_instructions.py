"""draft"""
from __future__ import annotations
import sys
from pathlib import Path
import zipfile, json
import numpy as np
from arm.board import CPUS, open_board
from arm.counting import count
from arm import profiling
board = open_board(Path(sys.argv[1]), Path("/tmp/xw/work"))
cpu = CPUS[sys.argv[2]]
p = Path(sys.argv[3])
z = zipfile.ZipFile(p)
lib = board.work / (p.stem + ".so")
lib.write_bytes(z.read("library.so"))
shape = json.loads(z.read("manifest.json"))["inputs"][0]["shape"]
x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
c = count(board, cpu, "tvm", lib, x)
print(c.instructions, c.spread)
for line in profiling.report(c, 25, int(sys.argv[4])):
    print(line)
