"""The JSON of an explanation, in and out; see `service.api.schemas` for the rest."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.api.examples import EXPLAIN
from service.api.schemas import (
    AnalyzeOut,
    AnalyzeQuery,
    BoxOut,
    FaceOut,
    Json,
    split,
    to_box,
    to_json,
)
from service.core.explain import Explained, ExplainOptions, Explanation
from service.types import Head, Method


class ExplainQuery(AnalyzeQuery):
    """Query options of explain: those of analyze, and how it is explained."""

    method: Method = Field(
        "guided",
        description="`guided`: guided back-propagation; `gradient`: the plain gradient; "
        "`occlusion`: what the probability falls by when a part is covered, for every model, and "
        "about ten times the work.",
    )
    labels: Annotated[
        tuple[Annotated[str, Field(max_length=64)], ...],
        BeforeValidator(split),
        Field(
            max_length=32,
            description="Labels to explain, comma-separated, at most one a head; a head of which "
            "none is named explains the label that it predicts. Write `80+` as `80%2B`.",
            examples=["sad,male"],
        ),
    ] = ()
    overlay: bool = Field(
        False, description="Draw the map over the part of the photo that the model saw."
    )

    def wanted(self) -> ExplainOptions:
        """How it is to be explained."""
        return ExplainOptions(self.method, self.labels, self.overlay)


class ExplanationOut(BaseModel):
    """What counted for one label of one face."""

    label: str
    area: BoxOut = Field(
        description="What the picture shows, in pixels of the upright image; it may reach beyond."
    )
    png: str = Field(
        description="A PNG in base64: the map in grey, one pixel for each that the model saw; with "
        "`overlay` in colour over the photo, 256 x 256."
    )


class ExplainedFaceOut(FaceOut):
    """One face, with an explanation for each head."""

    explanations: dict[Head, ExplanationOut]


class ExplainOut(AnalyzeOut):
    """What `/v1/explain` gives for one image: as analyze, with explanations."""

    model_config = ConfigDict(json_schema_extra={"examples": [EXPLAIN]})

    faces: Sequence[ExplainedFaceOut]
    method: Method


def to_explain_json(
    explained: Explained, *, request_id: str, landmarks: bool, method: Method
) -> Json:
    """Put an explained image into the form of `ExplainOut`."""
    out = to_json(explained.result, request_id=request_id, landmarks=landmarks)
    faces = [
        {**face, "explanations": {head: _explanation(one) for head, one in found.items()}}
        for face, found in zip(out["faces"], explained.explanations, strict=True)
    ]
    return {**out, "faces": faces, "method": method}


def _explanation(explanation: Explanation) -> Json:
    return {
        "label": explanation.label,
        "area": to_box(explanation.area),
        "png": base64.b64encode(explanation.png).decode(),
    }
