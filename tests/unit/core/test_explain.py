"""Explanations from options to pictures, without ONNX."""

from __future__ import annotations

import asyncio
from typing import Any

import cv2
import numpy as np
import pytest

from service.core.explain import (
    Explained,
    Explainer,
    ExplainItem,
    ExplainOptions,
    check_method,
    wished_labels,
)
from service.core.pipeline import Options
from service.errors import DeadlineExceeded, InferenceError, InvalidOption, Overloaded
from service.types import HEADS, CropItem, Method
from tests.fakes import FakeGradients, FakeModel, is_idle, make_card, noise, until
from tests.unit.core.test_pipeline import PHOTO, Gated, Make, Setup, make, trio

ALL: tuple[Any, ...] = HEADS
DIGEST = "1" * 64

__all__ = ["make"]  # a fixture


def graph(name: str = "graph", **options: Any) -> FakeModel:
    """A model whose card speaks of an explain graph."""
    return FakeModel(make_card(name, heads=ALL, explain_sha256=DIGEST, **options))


def item(method: Method, place: int = 1, *, seed: int = 0, view: Any = None) -> ExplainItem:
    crop = noise(16, 16, seed=seed, channels=1).reshape(16, 16, 1)
    return ExplainItem(crop, "emotion", place, method, view)


def opened(png: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)


async def explain(setup: Setup, options: Options | None = None, **wanted: Any) -> Explained:
    return await setup.analyzer.explain(PHOTO, options or Options(), ExplainOptions(**wanted))


# The runner --------------------------------------------------------------------------------------


def test_a_mixed_batch_is_one_run_for_each_kind_of_gradient() -> None:
    gradients, model = FakeGradients(), FakeModel(make_card("emo"))
    methods: list[Method] = ["guided", "gradient", "occlusion", "guided"]
    items = [item(method, place) for place, method in enumerate(methods)]
    pictures = Explainer(model, gradients, 32).run(items)
    assert len(pictures) == 4
    assert gradients.runs == [
        ((("emotion", 0), ("emotion", 3)), True),
        ((("emotion", 1),), False),
    ]
    assert len(model.runs) == 2  # 49 squares and the crop as it is, 32 at a time
    assert (opened(pictures[0]) == 0).all()
    assert (opened(pictures[3]) == 255).all()


def test_a_gradient_that_is_not_there_is_not_replaced() -> None:
    with pytest.raises(InferenceError, match="no explain graph"):
        Explainer(FakeModel(make_card("emo")), None, 4).run([item("gradient")])


def test_an_item_costs_what_is_run_for_it() -> None:
    runs = FakeModel(make_card("emo"))
    Explainer(runs, None, 100).run([item("occlusion")])
    assert item("occlusion").cost == len(runs.runs[0])
    assert item("guided").cost == item("gradient").cost < 10


def test_occlusion_shows_where_the_probability_falls() -> None:
    class Cornered(FakeModel):
        """Sees a face as long as its upper left corner is bright."""

        def run(self, items: Any) -> Any:
            self.runs.append(tuple(items))
            tops = [float(each.crop[0, 0, 0]) / 255 for each in items]
            return [{"emotion": np.array([1 - top, top, 0, 0, 0, 0, 0])} for top in tops]

    crop = np.zeros((16, 16, 1), np.uint8)
    crop[:4, :4] = 255
    model = Cornered(make_card("emo"))
    (png,) = Explainer(model, None, 20).run([ExplainItem(crop, "emotion", 1, "occlusion", None)])
    picture = opened(png)
    assert picture[0, 0] == 255
    assert not picture[4:].any()
    assert not picture[:, 4:].any()
    assert [len(run) for run in model.runs] == [20, 20, 10]
    assert all(isinstance(each, CropItem) for each in model.runs[0])


def test_with_a_view_the_map_is_drawn_over_it() -> None:
    view = np.full((256, 256, 3), 90, np.uint8)
    (png,) = Explainer(FakeModel(make_card("emo")), FakeGradients(), 4).run(
        [item("guided", view=view)]
    )
    assert opened(png).shape == (256, 256, 3)


# Options -----------------------------------------------------------------------------------------


def test_labels_go_to_the_heads_that_have_them() -> None:
    cards = dict.fromkeys(ALL, make_card("trio", heads=ALL))
    assert wished_labels(["80+", "sad"], cards) == {"emotion": "sad", "age": "80+"}
    assert wished_labels([], cards) == {}
    with pytest.raises(InvalidOption, match="no label 'glad'; there are angry, disgust"):
        wished_labels(["glad"], cards)
    with pytest.raises(InvalidOption, match="emotion can be explained for one label only"):
        wished_labels(["sad", "happy"], cards)
    with pytest.raises(InvalidOption, match="there are none"):
        wished_labels(["sad"], {})


def test_a_method_must_be_one_that_the_model_has() -> None:
    without, graphed = make_card("plain"), make_card("graph", explain_sha256=DIGEST)
    check_method("guided", {"emotion": graphed})
    check_method("occlusion", {"emotion": without})
    for method in ("guided", "gradient"):
        with pytest.raises(InvalidOption, match=f"'plain' .* method={method}: .*occlusion"):
            check_method(method, {"emotion": graphed, "gender": without})


# From bytes to pictures --------------------------------------------------------------------------


async def test_each_head_of_each_face_gets_its_picture(make: Make) -> None:
    gradients = FakeGradients()
    setup = await make(graph(), gradients=gradients)
    explained = await explain(setup)
    assert len(explained.result.faces) == len(explained.explanations) == 2
    for found in explained.explanations:
        assert list(found) == ["emotion", "gender", "age"]
        assert {head: each.label for head, each in found.items()} == {
            "emotion": "angry",  # what the model says
            "gender": "female",
            "age": "0-18",
        }
        assert all(opened(each.png).shape == (16, 16) for each in found.values())
    assert sum(len(classes) for classes, _ in gradients.runs) == 6
    assert all(guided for _, guided in gradients.runs)


async def test_a_wished_label_is_explained_in_place_of_what_is_said(make: Make) -> None:
    gradients = FakeGradients()
    setup = await make(graph(), gradients=gradients)
    options = Options(attributes=frozenset({"emotion", "gender"}), max_faces=1)
    explained = await explain(setup, options, labels=("sad",), method="gradient")
    (found,) = explained.explanations
    assert {head: each.label for head, each in found.items()} == {
        "emotion": "sad",
        "gender": "female",
    }
    assert {(classes[0], guided) for classes, guided in gradients.runs} | {
        (each, False) for classes, _ in gradients.runs for each in classes
    } == {(("emotion", 4), False), (("gender", 0), False)}


async def test_the_area_is_the_square_that_the_model_saw(make: Make) -> None:
    framing = {"scale": 1.5, "shift_y": 0.1}
    model = graph(input={"size": 16, "color": "gray", "framing": framing})
    setup = await make(model, gradients=FakeGradients())
    explained = await explain(setup, Options(max_faces=1))
    box, area = explained.result.faces[0].face.box, explained.explanations[0]["age"].area
    assert area.width == area.height == pytest.approx(1.5 * box.side)
    assert area.x + area.width / 2 == pytest.approx(box.center[0])
    assert area.y + area.height / 2 == pytest.approx(box.center[1] + 0.1 * box.side)
    whole = await explain(setup, Options(detect=False))
    area = whole.explanations[0]["age"].area
    assert (area.x, area.y, area.width, area.height) == (0, 0, 400, 300)


async def test_an_overlay_is_over_the_photo(make: Make) -> None:
    setup = await make(graph(), gradients=FakeGradients())
    explained = await explain(setup, Options(max_faces=1), overlay=True)
    assert opened(explained.explanations[0]["gender"].png).shape == (256, 256, 3)


async def test_no_face_and_no_head_are_no_errors(make: Make) -> None:
    setup = await make(graph(), gradients=FakeGradients())
    nobody = await explain(setup, Options(min_face_px=9000))
    assert (nobody.result.faces, nobody.explanations) == ((), ())
    detected = await explain(setup, Options(attributes=frozenset()))
    assert detected.explanations == ({}, {})


async def test_options_are_refused_before_any_work(make: Make) -> None:
    model = trio()
    setup = await make(model)
    with pytest.raises(InvalidOption, match="no explain graph"):
        await explain(setup)
    with pytest.raises(InvalidOption, match="no label"):
        await explain(setup, method="occlusion", labels=("glad",))
    assert model.runs == []
    assert len((await explain(setup, method="occlusion")).explanations) == 2


async def test_timings_count_both_rounds(make: Make) -> None:
    setup = await make(graph(), gradients=FakeGradients())
    timings = (await explain(setup)).result.timings
    parts = timings.decode + timings.detect + timings.queue + timings.infer
    assert parts <= timings.total
    name = {"model": "graph/explain"}
    assert setup.metrics.registry.get_sample_value("mien_queue_depth", name) == 0


async def test_too_many_explanations_are_refused_and_nothing_stays(make: Make) -> None:
    setup = await make(graph(), gradients=FakeGradients(), max_pending=5)
    with pytest.raises(Overloaded, match=r"graph/explain has .* 2 more do not fit"):
        await explain(setup)  # two faces with three heads
    await setup.assert_idle()
    assert len((await explain(setup, Options(max_faces=1))).explanations) == 1


async def test_a_deadline_drops_explanations_that_wait(make: Make) -> None:
    gate = Gated(make_card("emo"))
    setup = await make(gate)
    loop = asyncio.get_running_loop()
    options, wanted = Options(max_faces=1), ExplainOptions("occlusion")
    task = asyncio.create_task(
        setup.analyzer.explain(PHOTO, options, wanted, deadline=loop.time() + 3600)
    )
    await gate.pass_one()  # the analysis
    run = await gate.begun()  # the first crops under squares
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    run.fail(RuntimeError("nobody waits"))
    await until(lambda: is_idle(setup.models["emo"].explain))
    with pytest.raises(DeadlineExceeded):
        await setup.analyzer.explain(PHOTO, options, wanted, deadline=loop.time() - 1)
    await setup.assert_idle()


async def test_a_run_that_fails_fails_its_request_only(make: Make) -> None:
    class Broken(FakeGradients):
        def maps(self, *args: Any, **options: Any) -> Any:
            raise RuntimeError("broken")

    setup = await make(graph(), gradients=Broken())
    with pytest.raises(InferenceError, match="a run of graph/explain failed"):
        await explain(setup)
    assert setup.analyzer.unready is None
    assert len((await explain(setup, method="occlusion")).explanations) == 2


async def test_draining_finishes_explanations(make: Make) -> None:
    gate = Gated(make_card("emo"))
    setup = await make(gate)
    task = asyncio.create_task(
        setup.analyzer.explain(PHOTO, Options(max_faces=1), ExplainOptions("occlusion"))
    )
    await gate.pass_one()
    closing = asyncio.create_task(setup.analyzer.close(drain_s=5))
    while not task.done():
        await asyncio.wait(
            {task, asyncio.create_task(gate.pass_one())}, return_when=asyncio.FIRST_COMPLETED
        )
    assert len((await task).explanations) == 1
    await closing
