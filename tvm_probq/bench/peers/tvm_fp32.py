"""TVM itself on the float model."""
NAME = "tvm-fp32"
PACKAGES = ("tvm",)
def contestant(job):
    raise SystemExit("todo")
