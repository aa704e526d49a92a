"""What the estimators share: settings of the model, reading tables, saving and loading."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from .._version import __version__
from ..datasets import DataError
from ..datasets.wording import one_line
from ..engine.atomic import write_text
from ..engine.callbacks import Callback, Progress
from ..tables import Schema
from .column_types import types_of
from .frames import form_of, infer_schema, read_table
from .plain import as_json, without_lists

__all__ = ["TableEstimator", "TableModel", "require_device"]

_FEWEST_ROWS = 2


class TableModel(Protocol):
    """What is fitted to a table, and can be written to a folder."""

    @property
    def steps(self) -> int:
        """That its network was trained for."""
        ...

    @property
    def device(self) -> torch.device:
        """Where its network is."""
        ...

    def save(self, folder: Path) -> None:
        """Write files that ``load`` of the same class reads."""
        ...

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read them."""
        ...


Model = TypeVar("Model", bound=TableModel)


class TableEstimator(BaseEstimator, Generic[Model]):
    """An estimator with one model, fitted to a table; subclasses list their parameters in ``__init__``."""

    _model_class: type[Model]

    max_iter: int
    schema: Schema | None
    device: str
    random_state: Any
    verbose: int | bool

    model_: Model
    n_features_in_: int
    feature_names_in_: NDArray[np.object_]
    _form: str
    _types: dict[str, str]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model_")

    @property
    def n_iter_(self) -> int:
        """Steps that the network was trained for."""
        check_is_fitted(self)
        return self.model_.steps

    def save(self, path: str | Path) -> None:
        """Write the estimator to a folder: plain JSON and safetensors, nothing that is unpickled.

        Raises:
            NotFittedError: it is not fitted.
        """
        check_is_fitted(self)
        folder = Path(path)
        parameters = {
            name: value.to_dict() if isinstance(value, Schema) else value
            for name, value in self.get_params(deep=False).items()
        }
        if not isinstance(parameters["random_state"], int | np.integer | None):
            parameters["random_state"] = None  # a generator's state is no setting
        record = {
            "estimator": type(self).__name__,
            "version": __version__,
            "parameters": parameters,
            "n_features_in": self.n_features_in_,
            "feature_names_in": list(getattr(self, "feature_names_in_", [])) or None,
            "form": self._form,
            "types": self._types,
            "more": self._to_save(),
        }
        text = as_json(record, indent=1)  # what cannot be written leaves no half of a folder
        folder.mkdir(parents=True, exist_ok=True)
        self.model_.save(folder)
        write_text(folder / "estimator.json", text)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what :meth:`save` wrote.

        Raises:
            DataError: the folder holds no such estimator.
        """
        folder = Path(path)
        try:
            record = json.loads((folder / "estimator.json").read_text(encoding="utf-8"))
            name = record["estimator"]
        except (OSError, ValueError, KeyError) as error:
            raise DataError(f"{folder} holds no estimator: {error}; give a folder that save made") from None
        if name != cls.__name__:
            raise DataError(f"{folder} holds the estimator {name}, not {cls.__name__}; load it as that")
        parameters = record["parameters"]
        if parameters["schema"] is not None:
            parameters["schema"] = Schema.from_dict(parameters["schema"])
        estimator = cls(**without_lists(parameters))
        estimator.model_ = cls._model_class.load(folder)
        estimator.n_features_in_ = record["n_features_in"]
        if record["feature_names_in"] is not None:
            estimator.feature_names_in_ = np.array(record["feature_names_in"], dtype=object)
        estimator._form, estimator._types = record["form"], record.get("types", {})
        estimator._take_up(record["more"])
        return estimator

    def _to_save(self) -> dict[str, Any]:
        """What a subclass has beside its model, as plain values."""
        return {}

    def _take_up(self, more: dict[str, Any]) -> None:
        """What :meth:`_to_save` gave."""

    def _read_to_fit(self, X: Any) -> tuple[Any, Schema]:
        if self.max_iter < 0:
            raise ValueError(f"max_iter must be 0 or more, got {self.max_iter!r}")
        require_device(self.device)
        table = read_table(self, X, reset=True, least_rows=_FEWEST_ROWS)
        self._form = form_of(X)
        self._types = {} if self._form == "array" else types_of(X)
        return table, self.schema if self.schema is not None else infer_schema(X, table)

    def _read(self, X: Any) -> Any:
        check_is_fitted(self)
        return read_table(self, X, reset=False)

    def _seed(self) -> int:
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _callbacks(self) -> list[Callback]:
        return [Progress(show=("loss", "held_out_nll", "held_out_nll_and_error", "lr"))] if self.verbose else []

    def _generator(self, random_state: Any) -> torch.Generator:
        """On the model's device, from a seed, a NumPy generator or ``None``."""
        seed = int(check_random_state(random_state).randint(2**31 - 1))
        return torch.Generator(self.model_.device).manual_seed(seed)


def require_device(device: str) -> None:
    """Refused before anything is fitted, and not when the network is moved."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"device {device!r} cannot be used: {one_line(error)}") from None
