"""The fast environment check, run once before anything of ours touches TVM."""

from tvm_probq.environment import enforce, quick_check

enforce(quick_check())
