"""`Analyzer.analyze` from end to end, each stage at a gate where it matters."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from service.card import ModelCard
from service.core.batcher import Batcher
from service.core.explain import Explainer, ExplainOptions
from service.core.metrics import Metrics
from service.core.pipeline import Analyzer, Options, ServedDetector, ServedModel
from service.core.prepare import Preparer
from service.errors import (
    DeadlineExceeded,
    InferenceError,
    InvalidImage,
    InvalidOption,
    NotReady,
    Overloaded,
    ServiceClosed,
)
from service.runtime.registry import Model
from service.runtime.session import SessionOptions
from service.types import EMOTIONS, HEADS, Box, Result
from service.vision.codec import ImageLimits
from tests.fakes import (
    FakeDetector,
    FakeModel,
    GatedRunner,
    encode,
    is_idle,
    make_card,
    make_model_folder,
    noise,
    settle,
    until,
)

BIG, SMALL = (0.5, 0.1, 0.3, 0.4), (0.1, 0.5, 0.1, 0.2)
PHOTO = encode(noise(300, 400))
ALL: tuple[Any, ...] = HEADS


class Setup:
    """An analyzer and the parts that it was made of."""

    def __init__(
        self,
        *models: Any,
        prepare: Any = None,
        defaults: Sequence[str] = (),
        fault: str | None = None,
        max_pending: int = 16,
        slots: int = 1,
        gradients: Any = None,
        provider: str = "cpu",
    ) -> None:
        self.metrics = Metrics(CollectorRegistry())
        runner = prepare or Preparer(FakeDetector(SMALL, BIG), ImageLimits())
        self.prepare = self._batcher("prepare", runner, 1, max_pending, slots)
        self.models = {
            model.card.name: ServedModel(
                model.card,
                provider,
                self._batcher(model.card.name, model, 4, max_pending, slots),
                self._batcher(
                    f"{model.card.name}/explain",
                    Explainer(model, gradients, 4),
                    2,
                    max_pending,
                    slots,
                ),
                getattr(model, "warm_up", lambda: None),
            )
            for model in models
        }
        for name in self.models:
            self.metrics.runs(name, provider)
        self.analyzer = Analyzer(
            detector=ServedDetector("fake@1.0.0", "cpu"),
            prepare=self.prepare,
            models=self.models,
            defaults=defaults,
            metrics=self.metrics,
            fault=fault,
        )

    def _batcher(
        self, name: str, runner: Any, size: int, max_pending: int, slots: int
    ) -> Batcher[Any, Any]:
        return Batcher(
            runner,
            name=name,
            slots=slots,
            max_batch_size=size,
            max_pending=max_pending,
            observer=self.metrics,
        )

    def batcher(self, name: str) -> Batcher[Any, Any]:
        return self.models[name].batcher

    async def assert_idle(self) -> None:
        """Nothing is running or waiting any more."""
        await until(lambda: all(map(is_idle, self.analyzer._batchers())))
        for batcher in self.analyzer._batchers():
            assert not [entry for entry in batcher._queue if not entry.future.done()]


class Gated(GatedRunner):
    """A model at a gate."""

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        self.card = card
        self.fake = FakeModel(card)

    async def pass_one(self) -> None:
        run = await self.begun()
        run.give(self.fake.run(run.items))


class GatedPrepare(GatedRunner):
    """The first stage at a gate."""

    async def pass_one(self) -> None:
        run = await self.begun()
        run.give(Preparer(FakeDetector(SMALL, BIG), ImageLimits()).run(run.items))


Make = Callable[..., Coroutine[Any, Any, Setup]]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    """Make analyzers, started unless `start=False`; complaints of the loop fail the test."""
    heard: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context))
    made: list[tuple[Setup, list[Any]]] = []

    async def make_one(*models: Any, start: bool = True, **options: Any) -> Setup:
        setup = Setup(*models, **options)
        made.append((setup, [*models, options.get("prepare")]))
        if start:
            await setup.analyzer.start()
        return setup

    yield make_one
    for setup, runners in made:
        for runner in runners:
            if isinstance(runner, GatedRunner):
                runner.release()
        await setup.analyzer.close(drain_s=0)
    await settle()
    gc.collect()
    await settle()
    assert heard == []


def emotion(name: str = "emo", **options: Any) -> FakeModel:
    return FakeModel(make_card(name, heads=("emotion",)), **options)


def trio(name: str = "trio") -> FakeModel:
    return FakeModel(make_card(name, heads=ALL))


def begin(setup: Setup, **options: Any) -> asyncio.Task[Result]:
    return asyncio.create_task(setup.analyzer.analyze(PHOTO, Options(**options)))


# The result --------------------------------------------------------------------------------------


async def test_a_photo_gives_its_faces_with_all_attributes(make: Make) -> None:
    setup = await make(emotion(), trio(), defaults=["emo"])
    result = await setup.analyzer.analyze(PHOTO, Options())
    assert (result.width, result.height, result.orientation) == (400, 300, 1)
    assert [round(found.face.box.width) for found in result.faces] == [120, 40]
    assert result.models == {
        "detector": "fake@1.0.0",
        "emotion": "emo@1.0.0",
        "gender": "trio@1.0.0",
        "age": "trio@1.0.0",
    }
    for found in result.faces:
        assert list(found.predictions) == ["emotion", "gender", "age"]
        assert found.predictions["emotion"].label == "angry"
        assert found.predictions["emotion"].probability == pytest.approx(0.75)
        assert tuple(found.predictions["emotion"].probabilities) == EMOTIONS
    assert result.faces[0].quality.size_px == 120
    timings = result.timings
    assert timings.total >= timings.decode + timings.detect
    assert min(timings.queue, timings.infer) >= 0


async def test_each_face_keeps_its_own_answer(make: Make) -> None:
    gate = Gated(make_card("emo"))
    setup = await make(gate)
    task = begin(setup, attributes=frozenset({"emotion"}))
    run = await gate.begun()
    assert len(run.items) == 2
    answers = np.eye(7, dtype=np.float32)
    run.give([{"emotion": answers[3]}, {"emotion": answers[5]}])
    result = await task
    labels = [found.predictions["emotion"].label for found in result.faces]
    assert labels == [EMOTIONS[3], EMOTIONS[5]]


async def test_no_face_is_a_result_and_no_run(make: Make) -> None:
    model = trio()
    setup = await make(model, prepare=Preparer(FakeDetector(), ImageLimits()))
    result = await setup.analyzer.analyze(PHOTO, Options())
    assert result.faces == ()
    assert set(result.models) == {"detector", *HEADS}
    assert model.runs == []


async def test_without_detection_no_detector_is_named(make: Make) -> None:
    setup = await make(trio())
    result = await setup.analyzer.analyze(PHOTO, Options(detect=False))
    assert "detector" not in result.models
    assert result.faces[0].face.box == Box(0, 0, 400, 300)


async def test_no_attributes_give_faces_alone(make: Make) -> None:
    model = trio()
    setup = await make(model)
    result = await setup.analyzer.analyze(PHOTO, Options(attributes=frozenset()))
    assert len(result.faces) == 2
    assert result.faces[0].predictions == {}
    assert result.faces[0].quality.size_px == 120
    assert result.models == {"detector": "fake@1.0.0"}
    assert model.runs == []
    assert result.timings.infer == 0


async def test_what_was_not_asked_for_is_not_run(make: Make) -> None:
    one, three = emotion(), trio()
    setup = await make(one, three, defaults=["emo"])
    result = await setup.analyzer.analyze(PHOTO, Options(attributes=frozenset({"gender"})))
    assert list(result.faces[0].predictions) == ["gender"]
    assert one.runs == []
    assert {item.heads for run in three.runs for item in run} == {("gender",)}


async def test_stages_and_faces_are_counted(make: Make) -> None:
    setup = await make(trio())
    for _ in range(3):
        await setup.analyzer.analyze(PHOTO, Options())
    sample = setup.metrics.registry.get_sample_value
    for stage in ("decode", "detect", "queue", "infer"):
        assert sample("mien_stage_duration_seconds_count", {"stage": stage}) == 3
    assert sample("mien_faces_detected_sum") == 6
    assert sample("mien_queue_depth", {"model": "trio"}) == 0


# At once ------------------------------------------------------------------------------------------


class Noting(FakeModel):
    """A model that notes on which threads it ran."""

    def __init__(self, name: str = "trio", heads: tuple[Any, ...] = ALL) -> None:
        super().__init__(make_card(name, heads=heads))
        self.threads: list[str] = []

    def run(self, items: Any) -> Any:
        self.threads.append(threading.current_thread().name)
        return super().run(items)


async def test_an_idle_model_answers_on_the_thread_that_prepared_the_image(make: Make) -> None:
    model = Noting()
    setup = await make(model)
    at_once = await setup.analyzer.analyze(PHOTO, Options())
    (first,) = setup.batcher("trio").submit([model.runs[0][0]])
    await first
    assert model.threads == ["mien-prepare-0", "mien-trio-0"]
    assert len(model.runs[0]) == len(at_once.faces) == 2
    assert at_once.timings.infer > 0
    assert at_once.timings.total >= at_once.timings.infer
    sample = setup.metrics.registry.get_sample_value
    assert sample("mien_batch_size_sum", {"model": "trio"}) == 3
    assert setup.batcher("trio")._ran_cost == pytest.approx(0.8 * 2 + 1)


async def test_its_answers_are_those_that_go_through_the_queue(make: Make) -> None:
    setups = [await make(trio(), provider=provider) for provider in ("cpu", "cuda")]
    one, two = [await setup.analyzer.analyze(PHOTO, Options()) for setup in setups]
    assert one.faces[0].predictions == two.faces[0].predictions
    assert len(one.faces) == len(two.faces)


async def test_several_models_answer_side_by_side(make: Make) -> None:
    models = Noting("emo", ("emotion",)), Noting()
    setup = await make(*models, defaults=["emo"])
    await setup.analyzer.analyze(PHOTO, Options())
    assert [model.threads for model in models] == [["mien-emo-0"], ["mien-trio-0"]]


async def test_on_cuda_images_may_share_a_run(make: Make) -> None:
    model = Noting()
    setup = await make(model, provider="cuda")
    await setup.analyzer.analyze(PHOTO, Options())
    assert model.threads == ["mien-trio-0"]


async def test_where_images_wait_the_models_have_their_own_threads(make: Make) -> None:
    model = Noting()
    setup = await make(model)
    await asyncio.gather(*(begin(setup) for _ in range(3)))
    assert model.threads[:2] == ["mien-trio-0"] * 2


async def test_a_busy_model_is_waited_for(make: Make) -> None:
    gate = Gated(make_card("trio", heads=ALL))
    setup = await make(gate)
    (other,) = setup.batcher("trio").submit(["another image's"])
    run = await gate.begun()
    task = begin(setup)
    await until(lambda: setup.batcher("trio").waiting)
    run.give(["answer"])
    await other
    await gate.pass_one()
    assert len((await task).faces) == 2


async def test_a_failed_run_at_once_is_the_caller_s_error(make: Make) -> None:
    gate = Gated(make_card("trio", heads=ALL))
    setup = await make(gate)
    task = begin(setup)
    (await gate.begun()).fail(RuntimeError("broken"))
    with pytest.raises(InferenceError, match="a run of trio failed"):
        await task
    await setup.assert_idle()


class Interrupting(FakeDetector):
    """Calls what it is given while it detects."""

    def __init__(self, interrupt: Callable[[], object]) -> None:
        super().__init__(BIG)
        self._interrupt = interrupt

    def detect(self, *args: Any, **options: Any) -> Any:
        self._interrupt()
        return super().detect(*args, **options)


async def test_who_has_gone_meanwhile_is_not_answered(make: Make) -> None:
    loop, left = asyncio.get_running_loop(), threading.Event()

    def leave() -> None:
        loop.call_soon_threadsafe(task.cancel)
        left.wait(10)

    async def caller() -> str:
        try:
            await setup.analyzer.analyze(PHOTO, Options())
        except asyncio.CancelledError:
            # As the REST API does, to which it is an error of its own.
            current = asyncio.current_task()
            assert current is not None
            current.uncancel()
        return "gone"

    model = Noting()
    setup = await make(model, prepare=Preparer(Interrupting(leave), ImageLimits()))
    task = asyncio.create_task(caller())
    task.add_done_callback(lambda _: left.set())
    assert await task == "gone"
    await until(lambda: is_idle(setup.prepare))
    assert model.threads == []


async def test_a_run_is_counted_though_its_caller_has_gone(make: Make) -> None:
    gate = Gated(make_card("trio", heads=ALL))
    setup = await make(gate)
    task = begin(setup)
    run = await gate.begun()
    await cancel(task)
    run.give(gate.fake.run(run.items))
    await until(lambda: is_idle(setup.prepare))
    sample = setup.metrics.registry.get_sample_value
    assert sample("mien_batch_size_count", {"model": "trio"}) == 1
    assert setup.batcher("trio")._ran_s > 0


async def test_what_is_late_meanwhile_is_not_answered(make: Make) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + 0.05

    def dawdle() -> None:
        while loop.time() < deadline:
            time.sleep(0.005)

    model = Noting()
    setup = await make(model, prepare=Preparer(Interrupting(dawdle), ImageLimits()))
    with pytest.raises(DeadlineExceeded):
        await setup.analyzer.analyze(PHOTO, Options(), deadline=deadline)
    assert model.threads == []


# Which model serves which head -------------------------------------------------------------------


async def test_a_head_has_the_first_default_that_has_it_else_any(make: Make) -> None:
    models = [trio("alpha"), emotion("bravo"), emotion("charlie")]
    setup = await make(*models, defaults=["charlie", "bravo"])
    cards = setup.analyzer.default_heads
    assert {head: card.name for head, card in cards.items()} == {
        "emotion": "charlie",
        "gender": "alpha",
        "age": "alpha",
    }


@pytest.mark.parametrize(
    ("names", "served"),
    [
        ((), "alpha"),
        (("bravo",), "bravo"),
        (("gender", "bravo"), "bravo"),
        (("bravo", "alpha"), "bravo"),
        (("alpha", "bravo"), "alpha"),
        (("gender",), "alpha"),
        (("bravo", "bravo"), "bravo"),
    ],
)
async def test_a_head_is_served_by_the_first_named_model_that_has_it(
    make: Make, names: tuple[str, ...], served: str
) -> None:
    gender = FakeModel(make_card("gender", heads=("gender",)))
    setup = await make(trio("alpha"), emotion("bravo"), gender, defaults=["alpha"])
    result = await setup.analyzer.analyze(PHOTO, Options(models=names))
    assert result.models["emotion"] == f"{served}@1.0.0"
    assert result.models["gender"] == ("gender@1.0.0" if "gender" in names else "alpha@1.0.0")
    assert result.models["age"] == "alpha@1.0.0"


async def test_a_model_that_is_not_served_is_named(make: Make) -> None:
    setup = await make(emotion("alpha"), trio("bravo"))
    with pytest.raises(InvalidOption, match="no model 'nobody'; there are alpha, bravo"):
        await setup.analyzer.analyze(PHOTO, Options(models=("alpha", "nobody")))


async def test_a_head_that_no_model_has_is_an_invalid_option(make: Make) -> None:
    setup = await make(emotion())
    with pytest.raises(InvalidOption, match="'gender'"):
        await setup.analyzer.analyze(PHOTO, Options(attributes=frozenset({"emotion", "gender"})))


async def test_who_asks_for_nothing_gets_the_heads_that_are_served(make: Make) -> None:
    setup = await make(emotion())
    result = await setup.analyzer.analyze(PHOTO, Options())
    assert set(result.models) == {"detector", "emotion"}
    assert [set(face.predictions) for face in result.faces] == [{"emotion"}] * 2


# Errors ------------------------------------------------------------------------------------------


async def test_bytes_that_are_no_image(make: Make) -> None:
    setup = await make(trio())
    with pytest.raises(InvalidImage):
        await setup.analyzer.analyze(encode(noise(64, 64))[:100], Options())
    await setup.assert_idle()


async def test_when_one_model_is_overloaded_the_other_is_not_worked(make: Make) -> None:
    one = Gated(make_card("one", heads=("emotion",)))
    two = Gated(make_card("two", heads=("gender",)))
    setup = await make(one, two, max_pending=3)
    both = frozenset({"emotion", "gender"})
    first = begin(setup, attributes=both)
    running = [await one.begun(), await two.begun()]
    second = begin(setup, attributes=frozenset({"gender"}))
    await until(lambda: setup.batcher("two")._queue)
    with pytest.raises(Overloaded, match="two has 2 items waiting"):
        await setup.analyzer.analyze(PHOTO, Options(attributes=both))
    assert not [entry for entry in setup.batcher("one")._queue if not entry.future.done()]
    for gate, run in zip((one, two), running, strict=True):
        run.give(gate.fake.run(run.items))
    await two.pass_one()
    await asyncio.gather(first, second)
    await setup.assert_idle()
    assert len(one.runs) == 1, "the model that had room was not run for the refused request"


async def test_when_one_model_fails_the_request_fails_and_leaves_nothing(make: Make) -> None:
    one = Gated(make_card("one", heads=("emotion",)))
    two = Gated(make_card("two", heads=("gender",)))
    setup = await make(one, two)
    task = begin(setup, attributes=frozenset({"emotion", "gender"}))
    other = await two.begun()
    (await one.begun()).fail(RuntimeError("broken"))
    with pytest.raises(InferenceError, match="a run of one failed"):
        await task
    other.give(two.fake.run(other.items))
    after = begin(setup, attributes=frozenset({"emotion"}))
    await one.pass_one()
    assert len((await after).faces) == 2
    await setup.assert_idle()


async def test_numbers_that_are_no_probabilities_are_an_inference_error(make: Make) -> None:
    setup = await make(emotion(top=float("nan")))
    with pytest.raises(InferenceError, match="not probabilities"):
        await setup.analyzer.analyze(PHOTO, Options(attributes=frozenset({"emotion"})))


async def test_more_faces_than_may_wait_are_overload(make: Make) -> None:
    setup = await make(trio(), max_pending=1)
    with pytest.raises(Overloaded):
        await setup.analyzer.analyze(PHOTO, Options())
    assert len((await setup.analyzer.analyze(PHOTO, Options(max_faces=1))).faces) == 1


# Gone clients and deadlines ----------------------------------------------------------------------


async def cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_while_it_waits_to_be_decoded(make: Make) -> None:
    gate = GatedPrepare()
    setup = await make(trio(), prepare=gate)
    first = begin(setup)
    run = await gate.begun()
    gone = begin(setup)
    await settle()
    await cancel(gone)
    run.give(Preparer(FakeDetector(BIG), ImageLimits()).run(run.items))
    await first
    await setup.assert_idle()
    assert len(gate.runs) == 1


async def test_cancelled_while_it_is_decoded(make: Make) -> None:
    gate, model = GatedPrepare(), trio()
    setup = await make(model, prepare=gate)
    gone = begin(setup)
    run = await gate.begun()
    await cancel(gone)
    run.give(Preparer(FakeDetector(BIG), ImageLimits()).run(run.items))
    after = begin(setup)
    await gate.pass_one()
    assert len((await after).faces) == 2
    assert sum(len(run) for run in model.runs) == 2, "the gone request reached no model"
    await setup.assert_idle()


async def test_cancelled_while_it_waits_for_a_model(make: Make) -> None:
    gate = Gated(make_card("trio", heads=ALL))
    setup = await make(gate)
    (first,) = setup.batcher("trio").submit(["another image's"])
    run = await gate.begun()
    gone = begin(setup)
    await until(lambda: setup.batcher("trio")._queue)
    await cancel(gone)
    run.give(["answer"])
    await first
    await setup.assert_idle()
    assert len(gate.runs) == 1


async def test_cancelled_while_a_model_runs(make: Make) -> None:
    gate = Gated(make_card("trio", heads=ALL))
    setup = await make(gate)
    gone = begin(setup)
    run = await gate.begun()
    await cancel(gone)
    run.give(gate.fake.run(run.items))
    after = begin(setup)
    await gate.pass_one()
    assert len((await after).faces) == 2
    await setup.assert_idle()


async def test_a_deadline_that_has_passed_drops_the_work(make: Make) -> None:
    gate, model = GatedPrepare(), trio()
    setup = await make(model, prepare=gate)
    late = asyncio.get_running_loop().time()
    with pytest.raises(DeadlineExceeded, match="prepare"):
        await setup.analyzer.analyze(PHOTO, Options(), deadline=late)
    assert gate.runs == []


async def test_a_deadline_counts_for_the_models_too(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, model = GatedPrepare(), trio()
    setup = await make(model, prepare=gate)
    loop = asyncio.get_running_loop()
    now = loop.time()
    task = asyncio.create_task(setup.analyzer.analyze(PHOTO, Options(), deadline=now + 3600))
    run = await gate.begun()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "time", lambda: now + 7200)
        run.give(Preparer(FakeDetector(BIG), ImageLimits()).run(run.items))
        with pytest.raises(DeadlineExceeded, match="trio"):
            await task
    assert model.runs == []


# Readiness and closing ---------------------------------------------------------------------------


async def test_ready_only_when_warm_and_not_when_draining(make: Make) -> None:
    model = trio()
    setup = await make(model, start=False)
    analyzer = setup.analyzer
    assert analyzer.unready == "warming up"
    with pytest.raises(NotReady, match="warming up"):
        await analyzer.analyze(PHOTO, Options())
    await analyzer.start()
    assert analyzer.unready is None
    assert model.warmed == 1
    analyzer.drain()
    assert analyzer.draining
    assert analyzer.unready == "draining"
    assert len((await analyzer.analyze(PHOTO, Options())).faces) == 2, "what comes is served"
    await analyzer.close(drain_s=0)
    assert analyzer.unready == "draining"
    with pytest.raises(ServiceClosed):
        await analyzer.analyze(PHOTO, Options())


async def test_not_ready_while_a_model_warms_up(make: Make) -> None:
    gate = GatedRunner()
    model = trio()
    setattr(model, "warm_up", lambda: gate.run(["warm"]))  # noqa: B010
    setup = await make(emotion(), model, start=False)
    starting = asyncio.create_task(setup.analyzer.start())
    run = await gate.begun()
    assert setup.analyzer.unready == "warming up"
    run.give()
    await starting
    assert setup.analyzer.unready is None


async def test_a_model_that_cannot_warm_up_never_gets_ready(make: Make) -> None:
    model = trio()

    def fail() -> None:
        raise InferenceError("no kernel")

    setattr(model, "warm_up", fail)  # noqa: B010
    setup = await make(model, start=False)
    with pytest.raises(InferenceError, match="no kernel"):
        await setup.analyzer.start()
    assert setup.analyzer.unready == "model trio failed its first run: no kernel"
    with pytest.raises(NotReady):
        await setup.analyzer.analyze(PHOTO, Options())


async def test_says_when_to_come_again(make: Make) -> None:
    setup = await make(trio())
    assert setup.analyzer.retry_after_s() == 1.0


async def test_a_fault_of_the_set_up_is_the_reason(make: Make) -> None:
    setup = await make(trio(), fault="cuda was asked for")
    assert setup.analyzer.unready == "cuda was asked for"
    with pytest.raises(NotReady, match="cuda was asked for"):
        await setup.analyzer.analyze(PHOTO, Options())


@pytest.mark.parametrize("which", ["prepare", "trio"])
async def test_a_dead_worker_drops_readiness(make: Make, which: str) -> None:
    setup = await make(trio())
    heard: list[Any] = []
    loop = asyncio.get_running_loop()
    complain = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: heard.append(context))
    batcher = setup.prepare if which == "prepare" else setup.batcher(which)
    batcher._break(batcher._slots[0], ZeroDivisionError())
    loop.set_exception_handler(complain)
    assert setup.analyzer.unready == f"a worker of {which} ended unexpectedly"
    assert len(heard) == 1
    with pytest.raises(NotReady, match="ended unexpectedly"):
        await setup.analyzer.analyze(PHOTO, Options())


async def test_a_dead_worker_leaves_other_models_to_who_names_them(make: Make) -> None:
    setup = await make(trio(), emotion())
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    batcher = setup.batcher("trio")
    batcher._break(batcher._slots[0], ZeroDivisionError())
    options = Options(models=("emo",), attributes=frozenset({"emotion"}))
    result = await setup.analyzer.analyze(PHOTO, options)
    assert set(result.faces[0].predictions) == {"emotion"}
    assert setup.analyzer.unready == "a worker of trio ended unexpectedly"


@pytest.mark.parametrize("which", ["batcher", "explain"])
async def test_what_needs_a_dead_worker_is_refused_before_any_work(make: Make, which: str) -> None:
    setup = await make(trio())
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    dead = getattr(setup.models["trio"], which)
    dead._break(dead._slots[0], ZeroDivisionError())
    with pytest.raises(NotReady, match="ended unexpectedly"):
        await setup.analyzer.explain(PHOTO, Options(), ExplainOptions(method="occlusion"))
    assert setup.prepare._ran_cost == 0
    if which == "explain":
        assert (await setup.analyzer.analyze(PHOTO, Options())).faces


async def test_without_threads_it_is_not_ready_and_says_why(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    setup = await make(trio(), start=False)
    monkeypatch.setattr(setup.batcher("trio"), "start", no_threads)
    with pytest.raises(RuntimeError):
        await setup.analyzer.start()
    assert setup.analyzer.unready == "no threads for the models: can't start new thread"


def no_threads() -> None:
    raise RuntimeError("can't start new thread")


async def test_a_close_that_is_cut_short_stops_every_stage(make: Make) -> None:
    gate = Gated(make_card("trio", heads=ALL))
    setup = await make(gate)
    task = begin(setup)
    run = await gate.begun()
    closing = asyncio.create_task(setup.analyzer.close(drain_s=3600))
    await settle()
    closing.cancel()
    with pytest.raises(ServiceClosed):
        await task
    run.give([])
    assert not any(batcher._slots for batcher in setup.analyzer._batchers())


async def test_close_lets_each_stage_find_the_next_one_open(make: Make) -> None:
    first, gate = GatedPrepare(), Gated(make_card("trio", heads=ALL))
    setup = await make(gate, emotion(), prepare=first, defaults=["emo"])
    tasks = [begin(setup), begin(setup)]
    run = await first.begun()
    closing = asyncio.create_task(setup.analyzer.close(drain_s=3600))
    await settle()
    assert setup.analyzer.draining
    with pytest.raises(ServiceClosed):
        await setup.analyzer.analyze(PHOTO, Options())
    run.give(Preparer(FakeDetector(BIG), ImageLimits()).run(run.items))
    await gate.pass_one()
    assert not closing.done()
    await first.pass_one()
    await gate.pass_one()
    await closing
    assert [len((await task).faces) for task in tasks] == [1, 2]


@pytest.mark.parametrize("stage", ["prepare", "model"])
async def test_close_without_time_fails_what_is_under_way(make: Make, stage: str) -> None:
    first = GatedPrepare() if stage == "prepare" else None
    gate = Gated(make_card("trio", heads=ALL))
    setup = await make(gate, prepare=first)
    task = begin(setup)
    await (first or gate).begun()
    await setup.analyzer.close(drain_s=0)
    with pytest.raises(ServiceClosed):
        await task


async def test_close_before_start(make: Make) -> None:
    setup = await make(trio(), start=False)
    await asyncio.wait_for(setup.analyzer.close(drain_s=3600), 10)
    assert setup.analyzer.unready == "draining"


# Independence of batching ------------------------------------------------------------------------


def numbers(result: Result) -> list[float]:
    return [
        value
        for found in result.faces
        for prediction in found.predictions.values()
        for value in prediction.probabilities.values()
    ]


async def test_a_result_does_not_depend_on_what_is_beside_it(make: Make, tmp_path: Path) -> None:
    options = SessionOptions(provider="cpu", max_batch_size=4)
    models = [
        Model(make_model_folder(tmp_path, "emo", color="rgb", size=24), options),
        Model(make_model_folder(tmp_path, "trio", heads=ALL, seed=1), options),
    ]
    setup = await make(*models, defaults=["emo"], slots=2, max_pending=1000)
    photos = [encode(noise(60 + 7 * seed, 80, seed=seed)) for seed in range(6)]
    wants = [Options(), Options(attributes=frozenset({"age"})), Options(detect=False)]
    alone = {
        (photo, index): await setup.analyzer.analyze(photo, want)
        for photo in photos
        for index, want in enumerate(wants)
    }
    keys = [*alone] * 4
    np.random.default_rng(0).shuffle(keys)
    together = await asyncio.gather(
        *(setup.analyzer.analyze(photo, wants[int(index)]) for photo, index in keys)
    )
    for (photo, index), result in zip(keys, together, strict=True):
        expected = alone[photo, int(index)]
        assert replace(result, faces=(), timings=expected.timings) == replace(expected, faces=())
        np.testing.assert_allclose(numbers(result), numbers(expected), atol=1e-5)
    await setup.assert_idle()
