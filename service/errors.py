"""What can go wrong, as a tree; each class is a stage of the data's way and carries its facts.

MienError
├── ImageError            the bytes are no image that we can use
│   ├── UnsupportedMedia  a kind of content that is known, but not taken
│   ├── TooLarge          more bytes or pixels than a limit allows
│   └── InvalidImage      no image, or a truncated, damaged or lying one
├── InvalidOption         a request option that cannot be met
├── ModelError            a model folder that cannot be served
│   ├── CardInvalid       the card is missing or does not hold together
│   └── HashMismatch      the file is not the one that its card describes
├── Unavailable           the service cannot take the work now
│   ├── Overloaded        the queue is full
│   ├── NotReady          not warm yet, or something that is needed is missing
│   └── ServiceClosed     draining or stopped
├── DeadlineExceeded      the caller's time was up before the work was run
└── InferenceError        a model run failed
    └── InvalidItem       one item of a batch was at fault, not the run
"""

from __future__ import annotations


class MienError(Exception):
    """Base of every error that this service raises on purpose."""


class ImageError(MienError):
    """The bytes are no image that we can use."""


class UnsupportedMedia(ImageError):
    """A content type, an image format or a variant of one that is known, but not taken."""


class TooLarge(ImageError):
    """More bytes or pixels than a limit allows.

    Attributes:
        what: the limited quantity, as `bytes`, `pixels` or `side`.
        actual: what came.
        limit: what is allowed.
    """

    def __init__(self, what: str, actual: int, limit: int, *, of: str = "the image") -> None:
        amount = f"a side of {actual:,} pixels" if what == "side" else f"{actual:,} {what}"
        super().__init__(f"{of} has {amount}, the limit is {limit:,}")
        self.what, self.actual, self.limit = what, actual, limit


class InvalidImage(ImageError):
    """No image, or a truncated, damaged or lying one."""


class InvalidOption(MienError):
    """A request option that cannot be met."""


class ModelError(MienError):
    """A model folder that cannot be served."""


class CardInvalid(ModelError):
    """The card is missing or does not hold together."""


class HashMismatch(ModelError):
    """The file is not the one that its card describes."""

    def __init__(self, name: str, file: str, expected: str, actual: str) -> None:
        super().__init__(
            f"model {name!r}: {file} has sha256 {actual}, its card says {expected}; "
            "restore the file, or run `python -m export verify` to write a new card"
        )
        self.name, self.expected, self.actual = name, expected, actual


class Unavailable(MienError):
    """The service cannot take the work now.

    Attributes:
        retry_after_s: seconds after which a new attempt has a chance.
    """

    def __init__(self, message: str, *, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Overloaded(Unavailable):
    """The queue is full."""


class NotReady(Unavailable):
    """Not warm yet, or something that is needed is missing."""


class ServiceClosed(Unavailable):
    """Draining or stopped."""


class DeadlineExceeded(MienError):
    """The caller's time was up before the work was run."""


class InferenceError(MienError):
    """A model run failed."""


class InvalidItem(InferenceError):
    """One item of a batch was at fault, not the run."""
