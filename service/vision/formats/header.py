"""What is known of an image before it is decoded."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Header:
    """What the first bytes of an image say of it."""

    format: str
    """jpeg, png, gif, webp, bmp, tiff or avif: by the bytes, whatever the sender calls it."""
    width: int
    """As stored, before the orientation is undone; pixels."""
    height: int
    orientation: int = 1
    """EXIF orientation 1-8: how the stored picture must be turned to stand upright."""
    depth: int = 8
    """Bits per sample, 1 to 16."""
    premultiplied: bool = False
    """The decoder hands out colours that were multiplied by their alpha."""
