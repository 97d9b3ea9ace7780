"""Measured sensitivities, in a readable file that an interrupted run continues."""

import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tvm_probq.errors import PlanError
from tvm_probq.files import write_file
from tvm_probq.plan.plan import Plan
from tvm_probq.planning.sizes import NetworkSizes
from tvm_probq.planning.study import Sensitivity

FORMAT = 1
WHAT = "the file of sensitivities"
FIX = "name another file with --cache, or delete this one to measure anew"


@dataclass
class SensitivityTable:
    """Sensitivities by layer and option.

    Attributes
    ----------
    key : dict
        What they depend on: hashes of the model, the calibration record and the data, the plan of
        all layers, the number of samples.
    reference : Sensitivity or None
        Of the reference.
    measured : dict
        Of one layer and option alone, by layer and option.
    sizes : dict
        Bytes of networks, all of whose layers have one option, by target and option.
    """

    key: dict[str, Any]
    reference: Sensitivity | None = None
    measured: dict[str, dict[str, Sensitivity]] = field(default_factory=dict)
    sizes: dict[str, dict[str, NetworkSizes]] = field(default_factory=dict)

    def add(self, layer: str, option: str, found: Sensitivity) -> None:
        """Note a measurement."""
        self.measured.setdefault(layer, {})[option] = found

    def missing(self, layers: Iterable[str], options: Sequence[str]) -> list[tuple[str, str]]:
        """Pairs of layer and option that are not measured yet."""
        return [(n, o) for n in layers for o in options if o not in self.measured.get(n, {})]

    def save(self, path: Path) -> None:
        """Write as JSON, all or nothing; layers in the order of their names."""
        data = {
            "format": FORMAT,
            "key": self.key,
            "reference": None if self.reference is None else self.reference.to_json(),
            "measured": {
                layer: {option: s.to_json() for option, s in sorted(options.items())}
                for layer, options in sorted(self.measured.items())
            },
            "sizes": {
                target: {option: s.to_json() for option, s in sorted(options.items())}
                for target, options in sorted(self.sizes.items())
            },
        }
        text = json.dumps(data, indent=1) + "\n"
        write_file(path, text.encode(), what=WHAT, kind=PlanError)

    @classmethod
    def load(cls, path: Path, key: dict[str, Any]) -> "SensitivityTable":
        """Read what `save` wrote; an empty table where there is no file.

        Raises
        ------
        PlanError
            When the file is damaged, or of another model, calibration, data or plan.
        """
        if not path.is_file():
            return cls(key)
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']}, this version reads format {FORMAT}")
            reference = data["reference"]
            table = cls(
                dict(data["key"]),
                None if reference is None else _sensitivity(reference),
                {
                    layer: {option: _sensitivity(s) for option, s in options.items()}
                    for layer, options in data["measured"].items()
                },
                {
                    target: {option: NetworkSizes.from_json(s) for option, s in options.items()}
                    for target, options in data.get("sizes", {}).items()
                },
            )
        except OSError as error:
            raise PlanError(
                f"{WHAT} cannot be read", where=str(path), why=error.strerror or str(error), fix=FIX
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            why = f"{type(error).__name__}: {error}"
            raise PlanError(f"{WHAT} is damaged", where=str(path), why=why, fix=FIX) from error
        other = [name for name, value in key.items() if table.key.get(name) != value]
        if other:
            why = f"its {', '.join(other)} differ"
            raise PlanError(f"{WHAT} is of something else", where=str(path), why=why, fix=FIX)
        return table


def table_key(
    model_hash: str, record: bytes, data_hash: str, samples: int, plan: Plan
) -> dict[str, Any]:
    """What sensitivities depend on, beside layer and option."""
    return {
        "model": model_hash,
        "calibration record": hashlib.sha256(record).hexdigest(),
        "data": data_hash,
        "samples": samples,
        "plan": hashlib.sha256(plan.to_toml().encode()).hexdigest(),
    }


def _sensitivity(data: dict[str, Any]) -> Sensitivity:
    found = Sensitivity(**data)
    for name, value in data.items():
        known = value is None and name not in ("noise", "added_noise")
        if not known and not (isinstance(value, float | int) and math.isfinite(value)):
            raise ValueError(f"{name} is {value!r}")
    return found
