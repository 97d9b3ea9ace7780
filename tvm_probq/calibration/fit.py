"""Choose a surrogate and its interval for one layer from the calibration losses."""

from dataclasses import dataclass

import numpy as np

from tvm_probq.calibration.losses import CANDIDATES, IntervalLosses
from tvm_probq.calibration.record import TensorRecord
from tvm_probq.errors import CalibrationError
from tvm_probq.plan.plan import LayerPlan

# `moments` shares its sums with the correction; `iid` reads the input once more.
IID_HANDICAP = 1.25


# Rounding errors average out in the next layer's sums, clipping errors all have one sign.  Measured
# on w8a4 ResNet-20: 14.7 dB at the logits with the weight 3, 13.3 with 1, 14.7 with 10.
CLIPPING_WEIGHT = 3.0


@dataclass(frozen=True)
class ChosenFit:
    """A surrogate with its fitted interval.

    Attributes
    ----------
    kind, rule : str
        ``moments`` or ``iid``; ``coverage`` or ``mse``.
    alpha, beta : float
        Deviations below and above the predicted mean.
    error : float
        Mean squared quantization error expected on the calibration data.
    width : float
        Root mean square of the interval's width on the calibration data.
    """

    kind: str
    rule: str
    alpha: float
    beta: float
    error: float
    width: float


def choose_fit(tensor: TensorRecord, plan: LayerPlan) -> ChosenFit:
    """The fit of least squared error among those the plan allows."""
    kinds = [plan.surrogate] if plan.surrogate != "auto" else sorted(tensor.losses)
    if not tensor.losses or any(k not in tensor.losses for k in kinds):
        kinds = sorted(tensor.losses)
    if not kinds:
        raise CalibrationError(
            "no surrogate was calibrated for a layer that is to be predicted",
            fix="calibrate this model again",
        )
    rules = [plan.rule] if plan.rule != "auto" else ["mse"]
    levels = 2**plan.activation_bits - 1
    fits = [
        fit_interval(kind, rule, tensor.losses[kind], levels, plan.coverage)
        for kind in kinds
        for rule in rules
    ]
    return min(fits, key=lambda fit: fit.error * (1.0 if fit.kind == "moments" else IID_HANDICAP))


def fit_interval(
    kind: str, rule: str, losses: IntervalLosses, levels: int, coverage: float
) -> ChosenFit:
    """The interval of one surrogate by one rule."""
    error = expected_error(losses, levels)
    if rule == "mse":
        low, high = divmod(int(np.argmin(error)), error.shape[1])
    else:
        low, high = coverage_ends(losses, 1.0 - coverage)
    width = np.sqrt(losses.width[low, high] / losses.samples)
    return ChosenFit(
        kind, rule, float(CANDIDATES[low]), float(CANDIDATES[high]),
        float(error[low, high]), float(width),
    )  # fmt: skip


def expected_error(
    losses: IntervalLosses, levels: int
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Weighted squared error ``[K, K]`` over (alpha, beta): clipping plus uniform rounding."""
    clipped = losses.squared[0][:, None] + losses.squared[1][None, :]
    error: np.ndarray[tuple[int, int], np.dtype[np.float64]] = (
        CLIPPING_WEIGHT * clipped + losses.width / (12.0 * levels**2)
    ) / losses.samples
    return error


def coverage_ends(losses: IntervalLosses, outside: float) -> tuple[int, int]:
    """Smallest alpha and beta that leave out at most the share `outside`, indices into the grid.

    Conformal risk control (Angelopoulos et al., arXiv 2208.02814): over exchangeable samples the
    expected share left out by the smallest end with ``(sum + worst) / (n + 1) <= outside`` is at
    most `outside`; the loss of the sample to come is bounded by the worst one seen at that end.
    """
    one_sided = losses.share.sum(1) == 0
    budget = outside if one_sided.any() else outside / 2
    ends = []
    for row in range(2):
        risk = (losses.share[row] + losses.worst[row]) / (losses.samples + 1)
        enough = np.flatnonzero(risk <= budget)
        ends.append(int(enough[0]) if len(enough) else len(CANDIDATES) - 1)
    return ends[0], ends[1]
