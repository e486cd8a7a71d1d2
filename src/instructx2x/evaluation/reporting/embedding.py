"""Pictures as part of a page."""

from __future__ import annotations

import base64
import io
import warnings
from pathlib import Path

from PIL import Image, PngImagePlugin

from instructx2x import NOTICE
from instructx2x.errors import InputError
from instructx2x.imaging.pictures import FORMATS
from instructx2x.imaging.radiograph import label

WIDEST = 1600  # pixels


def embedded(path: Path) -> tuple[str, int, int]:
    """A picture's data URI, its width and its height.

    It is written anew as PNG, 8 bits, at most WIDEST pixels wide, so that nothing but its pixels and the notice comes
    along.

    Raises:
        InputError: it is not there, or not a whole picture.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                picture = image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    except FileNotFoundError as error:
        raise InputError(f"{label(path)}: the picture is not there; make it again") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{label(path)}: too many pixels for a page; make a smaller picture") from error
    except (OSError, ValueError, SyntaxError, OverflowError, MemoryError) as error:
        raise InputError(f"{label(path)}: not a whole picture; make it again") from error
    if picture.width > WIDEST:
        height = max(1, round(picture.height * WIDEST / picture.width))
        picture = picture.resize((WIDEST, height), Image.Resampling.LANCZOS)
    info = PngImagePlugin.PngInfo()
    info.add_text("Notice", NOTICE)
    content = io.BytesIO()
    picture.save(content, "PNG", pnginfo=info, optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}", *picture.size
