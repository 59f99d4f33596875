"""Settings -> a ready-made `Analyzer`: the only place where the parts are wired together."""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import TypeAlias

import cv2

from service.core.batcher import Batcher
from service.core.explain import Explainer
from service.core.metrics import Metrics
from service.core.pipeline import Analyzer, Options, ServedDetector, ServedModel
from service.core.prepare import Preparer
from service.errors import ModelError
from service.runtime.cpu import available_cores
from service.runtime.detector import MienDetector
from service.runtime.haar import HaarDetector
from service.runtime.registry import Model, load_models
from service.runtime.session import SessionOptions, tries_cuda
from service.runtime.yunet import YunetDetector
from service.settings import Settings
from service.vision.codec import ImageLimits

AnyDetector: TypeAlias = HaarDetector | MienDetector | YunetDetector


def open_analyzer(settings: Settings, metrics: Metrics) -> Analyzer:
    """Load the models and the detector and put an analyzer together; it is not started yet.

    Raises:
        ModelError: a model, or the detector's file, is missing, damaged or not what its card says.
    """
    # Images are worked on side by side, so OpenCV's own threads would only get in the way.
    cv2.setNumThreads(1)
    options = _session_options(settings)
    models = load_models(settings.models_dir, settings.models, options)
    detector = open_detector(settings)
    detector_card = detector.card if isinstance(detector, MienDetector) else None
    if detector_card is not None:
        name, version = detector_card.name, detector_card.version
        metrics.serves(name, version, detector_card.sha256, detector.provider)
    return Analyzer(
        detector=ServedDetector(detector.id, detector.provider, detector_card),
        prepare=Batcher(
            Preparer(detector, image_limits(settings)),
            name="prepare",
            slots=_slots(settings),
            max_batch_size=1,
            max_pending=settings.max_pending_images,
            observer=metrics,
        ),
        models={name: _served(model, settings, metrics) for name, model in models.items()},
        defaults=_defaults(settings, models),
        metrics=metrics,
        fault=_provider_fault(settings, models, detector),
    )


def _served(model: Model, settings: Settings, metrics: Metrics) -> ServedModel:
    card, largest = model.card, _session_options(settings).max_batch_size
    metrics.serves(card.name, card.version, card.sha256, model.provider)
    explain_name = f"{card.name}/explain"
    metrics.runs(explain_name, model.provider)
    faces = Batcher(
        model,
        name=card.name,
        slots=_slots(settings),
        max_batch_size=largest,
        max_pending=settings.max_pending_faces,
        observer=metrics,
    )
    explanations = Batcher(
        Explainer(model, model.gradients, largest),
        name=explain_name,
        slots=_slots(settings),
        max_batch_size=min(largest, settings.max_explain_batch_size),
        max_pending=settings.max_pending_explanations,
        observer=metrics,
        cost=attrgetter("cost"),
    )
    return ServedModel(card, model.provider, faces, explanations, model.warm_up)


def default_options(settings: Settings) -> Options:
    """What a caller gets who asks for nothing in particular."""
    return Options(
        max_faces=settings.max_faces,
        min_face_px=settings.min_face_px,
        detection_threshold=settings.detection_threshold,
    )


def explain_defaults(settings: Settings) -> Options:
    """The same for an explanation, which takes fewer faces."""
    faces = min(settings.max_faces, settings.max_explain_faces)
    return replace(default_options(settings), max_faces=faces)


def stream_frames(settings: Settings) -> int:
    """Frames of all streams that are worked on at a time.

    Twice the slots keep every slot busy; half the queue at most, so that requests find room.
    """
    wanted = settings.max_stream_frames or 2 * _slots(settings)
    return max(1, min(wanted, settings.max_pending_images // 2))


def image_limits(settings: Settings) -> ImageLimits:
    """The codec's limits."""
    return ImageLimits(settings.max_bytes, settings.max_pixels, settings.max_side)


def _session_options(settings: Settings) -> SessionOptions:
    # On a CPU eight faces in a run take as long each as 32, and the memory of a run grows with it.
    largest = settings.max_batch_size or (32 if tries_cuda(settings.provider) else 8)
    return SessionOptions(settings.provider, settings.threads, largest)


def _slots(settings: Settings) -> int:
    return settings.slots or max(1, available_cores() // settings.threads)


def open_detector(settings: Settings) -> AnyDetector:
    """What finds the faces.

    Raises:
        ModelError: its file is missing, damaged or not what its card says, or OpenCV lacks it.
    """
    options = _session_options(settings)
    side = settings.detector_max_side
    # Without the setting each has its own default.
    sides = {} if side is None else {"max_side": side}
    if settings.detector == "mien":
        return MienDetector(
            settings.detector_dir,
            tiles=settings.detector_tiles,
            enlarge=settings.detector_enlarge,
            options=options,
            **sides,
        )
    if settings.yunet_path is not None and settings.detector == "yunet":
        return YunetDetector(settings.yunet_path, options=options, **sides)
    return HaarDetector(**sides)


def _defaults(settings: Settings, models: dict[str, Model]) -> list[str]:
    """The wanted defaults that are served; one that was asked for by name must be.

    A default of ours gives way to its variant, which `export quantize` keeps where it is as good
    and faster, measured on a CPU.
    """
    asked_for = "default_models" in settings.model_fields_set
    missing = [name for name in settings.default_models if name not in models]
    if missing and asked_for:
        raise ModelError(f"default model {missing[0]!r} is not served")
    variants = {
        model.card.variant_of: name
        for name, model in models.items()
        if model.provider == "cpu" and not asked_for
    }
    return [variants.get(name, name) for name in settings.default_models if name in models]


def _provider_fault(
    settings: Settings, models: dict[str, Model], detector: AnyDetector
) -> str | None:
    runs = {f"model {name}": model.provider for name, model in models.items()}
    if not isinstance(detector, HaarDetector):  # It is no model, and knows only the CPU.
        runs["the detector"] = detector.provider
    wanted = {settings.provider, settings.require_provider} - {"auto", None}
    for part, provider in runs.items():
        if missing := sorted(str(name) for name in wanted if name != provider):
            return (
                f"{part} runs on {provider}, {missing[0]} was asked for; "
                "for CUDA install the `gpu` extra and check the driver"
            )
    return None
