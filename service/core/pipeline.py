"""The one door: `Analyzer.analyze` takes bytes and gives a `Result`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from time import perf_counter
from typing import Any

from service.card import DetectorCard, InputSpec, ModelCard
from service.core.batcher import Batcher, Served
from service.core.choice import Choice, by_head, choose
from service.core.explain import (
    Explained,
    ExplainItem,
    ExplainOptions,
    by_face,
    check_method,
    explanations,
    items,
    wished_labels,
    with_views,
)
from service.core.fan_out import fan_out
from service.core.metrics import Metrics
from service.core.prepare import Answers, Crops, Prepared, PrepareJob
from service.core.result import Round, faces_of, timings_of
from service.errors import NotReady
from service.types import AnalyzedFace, CropItem, Head, Probabilities, Result


@dataclass(frozen=True, slots=True)
class Options:
    """What one caller wants of one image."""

    models: tuple[str, ...] = ()
    """A head is served by the first of these that has it, else by its default."""
    attributes: frozenset[Head] | None = None
    """Heads that are run and returned; None for every one that is served."""
    max_faces: int = 100
    min_face_px: float = 0.0
    """In pixels of the full image."""
    detection_threshold: float | None = None
    detect: bool = True


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as the pipeline sees it: its card and the batchers in front of it."""

    card: ModelCard
    provider: str
    batcher: Batcher[CropItem, Probabilities]
    explain: Batcher[ExplainItem, bytes]
    """Items in, pictures as PNG files out."""
    warm_up: Callable[[], None]


@dataclass(frozen=True, slots=True)
class ServedDetector:
    """The detector as the pipeline sees it; `prepare` runs it."""

    id: str
    """`name@version`."""
    provider: str
    card: DetectorCard | None = None
    """None for a detector that is no model of ours."""


class Analyzer:
    """Analyses images; stateless, for use from one event loop."""

    def __init__(
        self,
        *,
        detector: ServedDetector,
        prepare: Batcher[PrepareJob, Prepared],
        models: Mapping[str, ServedModel],
        defaults: Sequence[str],
        metrics: Metrics,
        fault: str | None = None,
    ) -> None:
        """Put the parts together; `service.build.open_analyzer` does this.

        Args:
            detector: what finds the faces.
            prepare: decodes, detects and crops.
            models: by name.
            defaults: names in order of preference: a head's default is the first that has it.
            metrics: where stages and faces are counted.
            fault: why this analyzer can never be ready, if so: a provider that is missing.
        """
        self.models = models
        self.detector = detector
        self.default_heads = by_head([models[name].card for name in [*defaults, *models]])
        # Clients ask for the same again and again.
        self._choice = lru_cache(maxsize=256)(self._choose)
        self._prepare = prepare
        self._metrics = metrics
        self._fault = fault
        self._warm = False
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether it is about to stop: what comes is still served, but should go elsewhere."""
        return self._draining

    @property
    def unready(self) -> str | None:
        """Why no new work should be sent here; None when it may."""
        return "draining" if self._draining else self._unable()

    def retry_after_s(self) -> float:
        """Seconds until the images that wait now are worked off."""
        return self._prepare.retry_after_s()

    async def start(self) -> None:
        """Begin to serve once every model has been run at every batch size."""
        try:
            for batcher in self._batchers():
                batcher.start()
        except RuntimeError as error:
            self._fault = f"no threads for the models: {error}"
            raise
        for name, model in self.models.items():
            try:
                await asyncio.to_thread(model.warm_up)
            except Exception as error:
                self._fault = f"model {name} failed its first run: {error}"
                raise
        self._warm = True

    def drain(self) -> None:
        """Say from now on that work should go elsewhere."""
        self._draining = True

    async def close(self, *, drain_s: float) -> None:
        """Finish what was admitted, for at most `drain_s` seconds, and stop."""
        self.drain()
        deadline = perf_counter() + drain_s
        try:
            # One after the other: what leaves `prepare` must still find its models open.
            for batcher in self._batchers():
                await batcher.close(drain_s=max(deadline - perf_counter(), 0.0))
        finally:
            for batcher in self._batchers():
                batcher.stop()

    def heads_for(self, options: Options) -> Mapping[Head, ModelCard]:
        """The heads that are answered, and the model that serves each.

        Raises:
            InvalidOption: a model that is not served, or a head that none has.
        """
        return self._choice(options.models, options.attributes).heads

    def ids_for(self, options: Options) -> dict[str, str]:
        """Which `name@version` serves as detector and for each head.

        Raises:
            InvalidOption: as `heads_for`.
        """
        return self._ids(self._choice(options.models, options.attributes), options)

    async def analyze(
        self, data: bytes, options: Options, *, deadline: float | None = None
    ) -> Result:
        """Find every face in an image and say what the models say of it.

        Args:
            data: an encoded image.
            options: what is wanted.
            deadline: `loop.time()` after which work on it is dropped before it is run.

        Raises:
            ImageError: the bytes are no image that we can use.
            InvalidOption: a model that is not served.
            Unavailable: not ready, overloaded, draining or stopped.
            DeadlineExceeded: the time was up before the work was run.
            InferenceError: a model run failed.
        """
        started = perf_counter()
        self._check_ready()
        choice = self._choice(options.models, options.attributes)
        served, answers = await self._answered(data, options, choice, choice.specs, deadline)
        faces = faces_of(served.output, choice.heads, answers)
        return self._result(served, faces, choice, [answers], options, started)

    async def explain(
        self,
        data: bytes,
        options: Options,
        wanted: ExplainOptions,
        *,
        deadline: float | None = None,
    ) -> Explained:
        """Analyse an image, and show what counted for each head's answer for each face.

        It takes what `analyze` takes, and how it is explained.

        Raises:
            MienError: as `analyze`.
            InvalidOption: also a label that no head has, or a method that a model cannot serve.
        """
        started = perf_counter()
        self._check_ready()
        choice = self._choice(options.models, options.attributes)
        heads = choice.heads
        for name in choice.models:
            self.models[name].explain.check_open()
        check_method(wanted.method, heads)
        wished = wished_labels(wanted.labels, heads)
        specs = with_views(choice.specs) if wanted.overlay else choice.specs
        served, answers = await self._answered(data, options, choice, specs, deadline)
        prepared = served.output
        faces = faces_of(prepared, heads, answers)
        labels = {
            head: [wished.get(head, face.predictions[head].label) for face in faces]
            for head in heads
        }
        work = {
            head: (
                self.models[card.name].explain,
                items(prepared, card, head, labels[head], wanted),
            )
            for head, card in heads.items()
        }
        pictures = await fan_out(work, deadline=deadline)
        result = self._result(served, faces, choice, [answers, pictures], options, started)
        by_head = {
            head: explanations(prepared, card, labels[head], pictures[head], detect=options.detect)
            for head, card in heads.items()
        }
        return Explained(result, by_face(by_head, len(faces)))

    def _unable(self) -> str | None:
        failures = (batcher.failure for batcher in self._batchers())
        failure = self._fault or next((text for text in failures if text), None)
        return failure or (None if self._warm else "warming up")

    def _check_ready(self) -> None:
        if self._fault or not self._warm:
            raise NotReady(f"not ready: {self._unable()}", retry_after_s=1.0)

    async def _answered(
        self,
        data: bytes,
        options: Options,
        choice: Choice,
        specs: Mapping[str, InputSpec],
        deadline: float | None,
    ) -> tuple[Served[Prepared], Answers]:
        """The image made ready, and what the models say of its faces."""
        for name in choice.models:
            self.models[name].batcher.check_open()
        loop = asyncio.get_running_loop()

        def answer(crops: Crops) -> Answers | None:
            late = deadline is not None and loop.time() >= deadline
            # A future that is done already is one of a caller that has gone.
            return None if late or future.done() else self._at_once(crops, choice, loop)

        job = PrepareJob(
            data,
            detect=options.detect,
            detection_threshold=options.detection_threshold,
            min_face_px=options.min_face_px,
            max_faces=options.max_faces,
            specs=specs,
            answer=answer,
        )
        (future,) = self._prepare.submit([job], deadline=deadline)
        served = await future
        answers = served.output.answers
        if answers is None:
            answers = await self._infer(served.output, choice, deadline)
        return served, answers

    def _at_once(
        self, crops: Crops, choice: Choice, loop: asyncio.AbstractEventLoop
    ) -> Answers | None:
        """On the thread that cut the crops: the answers where no other image waits for anything.

        Several models are quicker side by side, and CUDA by one run for several images.
        """
        if len(choice.models) != 1 or self._prepare.waiting:
            return None
        ((name, wanted),) = choice.models.items()
        if self.models[name].provider != "cpu":
            return None
        batcher = self.models[name].batcher
        served = batcher.run_if_idle([CropItem(crop, wanted) for crop in crops[name]])
        if served is None:
            return None
        loop.call_soon_threadsafe(batcher.note, len(served), served[0].run_s)
        return {name: served}

    async def _infer(self, prepared: Prepared, choice: Choice, deadline: float | None) -> Answers:
        work = {
            name: (
                self.models[name].batcher,
                [CropItem(crop, wanted) for crop in prepared.crops[name]],
            )
            for name, wanted in choice.models.items()
        }
        return await fan_out(work, deadline=deadline)

    def _result(
        self,
        served: Served[Prepared],
        faces: tuple[AnalyzedFace, ...],
        choice: Choice,
        rounds: Sequence[Round],
        options: Options,
        started: float,
    ) -> Result:
        prepared, timings = served.output, timings_of(served, rounds, started)
        for stage in ("decode", "detect", "queue", "infer"):
            self._metrics.stages[stage].observe(getattr(timings, stage))
        self._metrics.faces.observe(len(faces))
        return Result(
            width=prepared.width,
            height=prepared.height,
            orientation=prepared.orientation,
            faces=faces,
            models=self._ids(choice, options),
            timings=timings,
        )

    def _ids(self, choice: Choice, options: Options) -> dict[str, str]:
        ids: dict[str, str] = {"detector": self.detector.id} if options.detect else {}
        ids.update(choice.ids.items())
        return ids

    def _choose(self, models: tuple[str, ...], attributes: frozenset[Head] | None) -> Choice:
        cards = {name: model.card for name, model in self.models.items()}
        return choose(models, attributes, cards, self.default_heads)

    def _batchers(self) -> list[Batcher[Any, Any]]:
        models = self.models.values()
        return [
            self._prepare,
            *(model.batcher for model in models),
            *(model.explain for model in models),
        ]
