"""Pictures as people upload them, and some that nobody should."""

from __future__ import annotations

import base64
import struct
import zlib

SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    ' viewBox="0 0 {width} {height}">{inside}</svg>'
)
# 64 by 32 pixels of green, from a program of others.
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDABsSFBcUERsXFhceHBsgKEIrKCUlKFE6PTBCYFVlZF9VXVtqeJmBanGQc1td"
    "hbWGkJ6jq62rZ4C8ybqmx5moq6T/2wBDARweHigjKE4rK06kbl1upKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSkpKSk"
    "pKSkpKSkpKSkpKSkpKSkpKSkpKT/wAARCAAgAEADASIAAhEBAxEB/8QAFQABAQAAAAAAAAAAAAAAAAAAAAT/xAAUEAEA"
    "AAAAAAAAAAAAAAAAAAAA/8QAFgEBAQEAAAAAAAAAAAAAAAAAAAEE/8QAFBEBAAAAAAAAAAAAAAAAAAAAAP/aAAwDAQAC"
    "EQMRAD8AgAViAAAAAAAAAAAAAAf/2Q=="
)


def a_png(
    width: int = 600, height: int = 200, *, rows: int | None = None, text: str | None = None
) -> bytes:
    """A red picture; with fewer rows than it says it is damaged, with text it carries metadata."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    deflate = zlib.compressobj(9)
    row = b"\0" + b"\xff\0\0" * width
    given = height if rows is None else rows
    pixels = b"".join(deflate.compress(row) for _ in range(given)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    about = b"" if text is None else chunk(b"tEXt", b"Author\0" + text.encode())
    head = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + about
    return head + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def an_svg(inside: str = "", width: int = 300, height: int = 100) -> bytes:
    """A green rectangle, and whatever else."""
    drawn = f'<rect width="{width}" height="{height}" fill="#0b6e52"/>{inside}'
    return SVG.format(width=width, height=height, inside=drawn).encode()
