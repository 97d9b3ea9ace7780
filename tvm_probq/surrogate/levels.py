"""The widths that a surrogate picks from, and the rounding step that allows a narrower one."""

from tvm_probq.plan.plan import LayerPlan


def levels_of(plan: LayerPlan) -> list[float]:
    """Largest codes of the widths that a plan allows, ascending."""
    return [2.0**bits - 1 for bits in plan.widths]


def largest_step(width: float, plan: LayerPlan) -> float:
    """The step whose rounding noise is `LayerPlan.tolerance_db` above that of the widest codes.

    Parameters
    ----------
    width : float
        Root mean square of the interval's width on calibration data.
    plan : LayerPlan
        Of the layer.

    Returns
    -------
    float
        One number for all inputs: one whose range is narrower needs fewer bits to stay below it.
        0 where the width is fixed.
    """
    if len(plan.widths) == 1:
        return 0.0
    return float(width / levels_of(plan)[-1] * 10.0 ** (plan.tolerance_db / 20.0))
