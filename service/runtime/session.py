"""An ONNX Runtime session as a batch runner: providers, threads, buckets, IO binding, warm-up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from service.errors import InferenceError, InvalidItem, ModelError

Provider = Literal["auto", "cpu", "cuda"]

_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_NAMES: dict[str, Literal["cpu", "cuda"]] = {_CPU: "cpu", _CUDA: "cuda"}


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How a model is run.

    Attributes:
        provider: `auto` takes CUDA where it works and the CPU elsewhere.
        threads: intra-op threads of one run; slots x threads should not exceed the cores.
        max_batch_size: the largest batch; batches are padded up to powers of two below it.
    """

    provider: Provider = "auto"
    threads: int = 1
    max_batch_size: int = 32


class OrtSession:
    """One loaded graph; `run` is thread-safe."""

    def __init__(
        self,
        path: Path,
        options: SessionOptions,
        data: bytes | None = None,
        *,
        weights: Mapping[str, bytes] | None = None,
    ) -> None:
        """Load a model.

        Args:
            path: its file, for messages too.
            options: how it is run.
            data: what to load in place of the file: its content, read and checked already.
            weights: content of the files that the graph refers to for its weights, by name.

        Raises:
            ModelError: ONNX Runtime cannot load the file.
        """
        wanted = _providers(options.provider)
        _share_arena()
        settings = _session_options(options.threads)
        if weights:
            names, files = list(weights), list(weights.values())
            settings.add_external_initializers_from_files_in_memory(
                names, files, [len(file) for file in files]
            )
        try:
            self._session = ort.InferenceSession(data or str(path), settings, providers=wanted)
        except Exception as error:  # ORT's own exception types share no public base.
            raise ModelError(f"{path} cannot be loaded: {_first_line(error)}") from error
        # What is in use, not what was asked for: ONNX Runtime falls back silently.
        self.provider = _NAMES.get(self._session.get_providers()[0], "cpu")

    @property
    def inputs(self) -> dict[str, tuple[int | str | None, ...]]:
        """Shape of every input by name; a symbolic or unknown dimension is a str or None."""
        return {node.name: tuple(node.shape) for node in self._session.get_inputs()}

    @property
    def input_types(self) -> dict[str, str]:
        """Type of every input by name, as ONNX Runtime writes it: `tensor(uint8)`."""
        return {node.name: node.type for node in self._session.get_inputs()}

    @property
    def outputs(self) -> dict[str, tuple[int | str | None, ...]]:
        """Shape of every output by name."""
        return {node.name: tuple(node.shape) for node in self._session.get_outputs()}

    def run(
        self,
        name: str,
        value: NDArray[Any],
        fetches: Sequence[str],
        **others: NDArray[Any],
    ) -> list[NDArray[Any]]:
        """Run the graph and give the outputs that `fetches` name.

        Args:
            name: of the input that every graph has.
            value: its value.
            fetches: names of outputs.
            others: inputs beside it, by name.

        ONNX Runtime executes the whole graph all the same: `only_execute_path_to_fetches` is for
        its training builds (microsoft/onnxruntime#16013).

        Raises:
            InvalidItem: ONNX Runtime refused the input.
            InferenceError: the run failed.
        """
        feeds = {name: value, **others}
        try:
            if self.provider == "cuda":
                return self._run_bound(feeds, fetches)
            outputs: list[NDArray[Any]] = self._session.run(list(fetches), feeds)
            return outputs
        except Exception as error:
            if isinstance(error, InvalidArgument | ValueError | TypeError):
                raise InvalidItem(f"the model refused its input: {_first_line(error)}") from error
            raise InferenceError(f"the model run failed: {_first_line(error)}") from error

    def _run_bound(
        self, feeds: Mapping[str, NDArray[Any]], fetches: Sequence[str]
    ) -> list[NDArray[Any]]:
        binding = self._session.io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(value, "cuda", 0))
        for fetch in fetches:
            binding.bind_output(fetch, "cuda", 0)
        self._session.run_with_iobinding(binding)
        outputs: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return outputs


def buckets(max_batch_size: int) -> list[int]:
    """The batch sizes that are run: powers of two up to `max_batch_size`, and itself."""
    sizes = [1 << k for k in range(max_batch_size.bit_length()) if 1 << k < max_batch_size]
    return [*sizes, max_batch_size]


def pad_to_bucket(batch: NDArray[Any], sizes: Sequence[int]) -> NDArray[Any]:
    """Pad (N, ...) with zeros to the next bucket: a new shape costs CUDA a kernel search."""
    count = len(batch)
    size = next(size for size in sizes if size >= count)
    padding = np.zeros((size - count, *batch.shape[1:]), batch.dtype)
    return batch if size == count else np.concatenate([batch, padding])


def tries_cuda(provider: Provider) -> bool:
    """Whether a session for this provider asks for CUDA; what it got is `OrtSession.provider`."""
    return provider != "cpu" and _CUDA in ort.get_available_providers()


def _providers(provider: Provider) -> list[str | tuple[str, dict[str, str]]]:
    cuda = (_CUDA, {"cudnn_conv_algo_search": "HEURISTIC", "do_copy_in_default_stream": "1"})
    if not tries_cuda(provider):
        return [_CPU]
    ort.preload_dlls()
    return [cuda, _CPU]


@cache
def _share_arena() -> None:
    """Let the sessions of this process take their working memory from one place.

    An arena of its own keeps for each what its largest batch needed: eight models then hold
    332 MB after their warm-up, and 172 MB with one arena for all.
    """
    memory = ort.OrtMemoryInfo(
        "Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT
    )
    ort.create_and_register_allocator(memory, None)


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    options.add_session_config_entry("session.use_env_allocators", "1")
    # A spinning pool burns the cores that the other slots need.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    return options


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
