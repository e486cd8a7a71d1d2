"""Images in and out: the radiograph with its stored depth and display, files, and the one geometry."""

from .geometry import Frame, resize
from .radiograph import MAX_PIXELS, MIN_SIDE, Radiograph
from .reading import from_array, read
from .writing import atomic_write, edited_suffix, eight_bit, write, write_png

__all__ = [
    "MAX_PIXELS",
    "MIN_SIDE",
    "Frame",
    "Radiograph",
    "atomic_write",
    "edited_suffix",
    "eight_bit",
    "from_array",
    "read",
    "resize",
    "write",
    "write_png",
]
