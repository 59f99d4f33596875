"""A model's `explain.onnx`: the gradient of a class as a graph of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from service.card import EXPLAIN_FILE, MODEL_FILE, ModelCard
from service.errors import InvalidItem
from service.runtime.files import read_checked
from service.runtime.session import OrtSession, SessionOptions, buckets, pad_to_bucket
from service.types import Head


class GradientGraph:
    """Verified at start, loaded when it is first asked for; `service.core.ports.Gradients`.

    Whoever never asks pays for neither its load nor its memory (docs/adr/0004 has the figures).
    """

    def __init__(
        self,
        folder: Path,
        card: ModelCard,
        options: SessionOptions,
        first_classes: Mapping[str, int],
    ) -> None:
        """Verify the file against the card.

        Args:
            folder: of the model.
            card: its card.
            options: how the graph is run.
            first_classes: where each head's labels begin in the count through all of them.

        Raises:
            ModelError: the file is missing.
            HashMismatch: it is not the one that the card describes.
        """
        self._folder, self._card, self._options = folder, card, options
        self._first_classes = first_classes
        self._buckets = buckets(options.max_batch_size)
        self._loading = Lock()
        self._session: OrtSession | None = None
        self._read()

    def maps(
        self,
        crops: Sequence[NDArray[np.uint8]],
        classes: Sequence[tuple[Head, int]],
        *,
        guided: bool,
    ) -> NDArray[np.float32]:
        """Explain each crop; see `service.core.ports.Gradients`.

        Raises:
            ModelError: the file has gone or was changed since the start, or cannot be loaded.
            InvalidItem: a map has no finite numbers: the gradient of this crop has no bounds.
            InferenceError: the run failed.
        """
        session = self._loaded()
        batch = np.stack(crops)  # (N, S, S, C)
        chosen = np.array([self._first_classes[head] + place for head, place in classes], np.int64)
        if session.provider == "cuda":
            batch, chosen = (pad_to_bucket(part, self._buckets) for part in (batch, chosen))
        inputs = {"class": chosen, "guided": np.array(guided)}
        (maps,) = session.run(self._card.input.name, batch, ["map"], **inputs)
        maps = np.asarray(maps[: len(crops)], np.float32)
        if not np.isfinite(maps).all():
            raise InvalidItem(f"the gradient of {self._card.name} has no bounds for a crop")
        return maps

    def _loaded(self) -> OrtSession:
        with self._loading:
            if self._session is None:
                # Checked again: the files may have been replaced since the start.
                weights = read_checked(self._folder / MODEL_FILE, self._card.sha256)
                self._session = OrtSession(
                    self._folder / EXPLAIN_FILE,
                    self._options,
                    self._read(),
                    weights={MODEL_FILE: weights},
                )
            return self._session

    def _read(self) -> bytes:
        return read_checked(self._folder / EXPLAIN_FILE, str(self._card.explain_sha256))
