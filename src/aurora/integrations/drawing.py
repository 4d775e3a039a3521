"""A process that draws one picture and ends: bounded in memory and time, whatever it is given.

It is started by `aurora.integrations.pictures` and is no part of any other process, so that a
picture that unpacks into gigabytes, or an SVG that repeats itself without end, takes nobody along.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

MAX_MEMORY_BYTES: Final = 768 * 1024 * 1024
MAX_CPU_S: Final = 5
MAX_PICTURE_PIXELS: Final = 16_000_000

EXIT_NO_PICTURE: Final = 3

# Drawn by the engine that prints it later. What has pixels is never made larger; the picture's own
# side lengths come from the engine, which knows of rotation and resolution.
_SOURCE: Final = """
#set page(width: auto, height: auto, margin: 0pt, fill: none)
#context {{
  let natural = measure(image("picture", format: "{kind}"))
  let (width, height) = (natural.width.pt(), natural.height.pt())
  let fitting = calc.min({max_width} / width, {max_height} / height)
  let factor = if {pixels} > 0 {{ calc.min(fitting, calc.sqrt({pixels} / (width * height))) }} else {{ fitting }}
  let side(length) = calc.max(1, calc.round(length * factor)) * 1pt
  image("picture", format: "{kind}", width: side(width), height: side(height), fit: "stretch")
}}
"""  # noqa: E501 - a line of the template


def main(folder: str, kind: str, pixels: str, max_width: str, max_height: str) -> int:
    """Draw the file `picture` of a folder, one point a pixel, and write a PNG to standard output.

    Args:
        folder: Holds the picture, and is all that the drawing can read.
        kind: png, jpg, or svg.
        pixels: How many the picture has; 0 for one that has none.
        max_width: Of the result, in pixels.
        max_height: Of the result, in pixels.

    Returns:
        0, or EXIT_NO_PICTURE where the file cannot be drawn.
    """
    _limit()
    import typst

    source = _SOURCE.format(
        kind=kind, pixels=int(pixels), max_width=int(max_width), max_height=int(max_height)
    )
    compiler = typst.Compiler(root=Path(folder), ignore_system_fonts=True)
    try:
        drawn = compiler.compile(source.encode(), format="png", ppi=72)
    except typst.TypstError:
        return EXIT_NO_PICTURE
    if not isinstance(drawn, bytes):
        return EXIT_NO_PICTURE
    sys.stdout.buffer.write(drawn)
    return 0


def _limit() -> None:
    """Let the kernel end this process before it takes more than its share."""
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
