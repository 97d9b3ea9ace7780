"""Errors of the plugin: what happened, where, why, and what to do next."""

from __future__ import annotations


class ProbqError(Exception):
    """A problem the user can act on.

    Parameters
    ----------
    what : str
        What happened, as a phrase without a final full stop.
    where : str, optional
        The place: a file, an ONNX node, an op with its shape, an option.
    why : str, optional
        The cause.
    fix : str, optional
        What to do next.

    Attributes
    ----------
    what, where, why, fix : str
        The parts as given, for machine-readable reports.
    """

    def __init__(self, what: str, *, where: str = "", why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.why = why
        self.fix = fix

    def __str__(self) -> str:
        """Join the parts into one message: ``where: what: why. What to do: fix``."""
        text = f"{self.where}: {self.what}" if self.where else self.what
        if self.why:
            text = f"{_without_stop(text)}: {self.why}"
        if self.fix:
            text = f"{_without_stop(text)}. What to do: {self.fix}"
        return text

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle all four parts; the default would lose the keyword ones."""
        return _rebuild, (type(self), self.what, self.where, self.why, self.fix)


def _rebuild(kind: type[ProbqError], what: str, where: str, why: str, fix: str) -> ProbqError:
    return kind(what, where=where, why=why, fix=fix)


def _without_stop(text: str) -> str:
    return text.rstrip().rstrip(".")


class EnvironmentProblem(ProbqError):  # noqa: N818 - a problem to solve, not a fault of the code
    """The machine or an installed package cannot do what is asked."""


class ModelError(ProbqError):
    """The model file is missing, damaged or not a model."""


class UnsupportedError(ProbqError):
    """The input is valid, but this version cannot handle it."""


class DataError(ProbqError):
    """A data set, a card or an input array is missing, damaged or of the wrong form."""


class CalibrationError(ProbqError):
    """Calibration could not derive ranges or surrogate fits."""


class PlanError(ProbqError):
    """A quantization plan is invalid or cannot be met."""


class TargetError(ProbqError):
    """A hardware target or its profile is unknown, invalid or unfit."""


class KernelError(ProbqError):
    """A kernel could not be generated, compiled or verified."""


class TuningError(ProbqError):
    """A tuning database is damaged, of another version or unfit, or tuning cannot run here."""


class ArtefactError(ProbqError):
    """A compiled artefact is damaged, edited, or of another version or machine."""


class BoardError(ProbqError):
    """A board cannot be reached, is busy, frozen or unfit, or a session on it has failed."""


class UsageError(ProbqError):
    """A command-line option or an argument has an invalid value."""
