"""How much work a file may ask for, whatever it says of itself."""

MAX_BLOCK = 1 << 22
"""Pixels: a TIFF strip, a tile or an AVIF item may be larger than a small picture, not endless."""

MAX_CHUNKS = 100_000
"""Parts that are visited: 20 MB in PNG chunks of 8 kB, as libpng writes them, are 2,500; in GIF
blocks of 255 bytes 80,000."""
