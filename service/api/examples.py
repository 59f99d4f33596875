"""The example answers that OpenAPI shows."""

from __future__ import annotations

from typing import Any

ANALYZE: dict[str, Any] = {
    "request_id": "6f1d4c1e9a5b4c0f8f0e6a3f2b9d7c11",
    "image": {"width": 640, "height": 480, "orientation": 1},
    "faces": [
        {
            "box": {"x": 210.5, "y": 96.0, "width": 118.0, "height": 156.0},
            "detection_score": 0.98,
            "landmarks": {
                "right_eye": [244.0, 157.5],
                "left_eye": [295.0, 156.0],
                "nose": [270.5, 186.0],
                "mouth_right": [250.5, 217.0],
                "mouth_left": [291.5, 216.0],
            },
            "emotion": {
                "label": "happy",
                "probability": 0.93,
                "uncertain": False,
                "probabilities": {
                    "angry": 0.01,
                    "disgust": 0.0,
                    "fear": 0.01,
                    "happy": 0.93,
                    "sad": 0.01,
                    "surprise": 0.02,
                    "neutral": 0.02,
                },
            },
            "gender": {
                "label": "female",
                "probability": 0.97,
                "uncertain": False,
                "probabilities": {"female": 0.97, "male": 0.03},
            },
            "age": {
                "label": "19-30",
                "probability": 0.81,
                "uncertain": False,
                "probabilities": {"0-18": 0.1, "19-30": 0.81, "31-80": 0.09, "80+": 0.0},
            },
            "quality": {"size_px": 136, "sharpness": 0.7},
        }
    ],
    "models": {
        "detector": "detector@1.0.0",
        "emotion": "mien_int8@1.0.0",
        "gender": "mien_int8@1.0.0",
        "age": "mien_int8@1.0.0",
    },
    "timings_ms": {"decode": 1.2, "detect": 3.4, "queue": 0.2, "infer": 0.9, "total": 6.0},
}

EXPLAIN: dict[str, Any] = ANALYZE | {
    "faces": [
        ANALYZE["faces"][0]
        | {
            "explanations": {
                head: {
                    "label": ANALYZE["faces"][0][head]["label"],
                    "area": {"x": 192.5, "y": 97.0, "width": 154.0, "height": 154.0},
                    "png": "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAAAAACPAi4C…",
                }
                for head in ("emotion", "gender", "age")
            }
        }
    ],
    "method": "guided",
}
