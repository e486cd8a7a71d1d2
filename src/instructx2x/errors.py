"""Errors that a user can act on.

Every one carries a single line that says what is wrong and what to do; the command line prints that line and exits
with code 2. Anything else that escapes is a defect of this package.
"""

import errno
import os


class InstructX2XError(Exception):
    """Base of every error that is the input's, not the program's."""


class InputError(InstructX2XError):
    """An image, mask or table that cannot be used as it is."""


class InstructionError(InstructX2XError):
    """An instruction that cannot be understood, or contradicts itself."""


class AnatomyError(InstructX2XError):
    """No pseudo mask exists for what was asked."""


class ModelError(InstructX2XError):
    """A model that cannot be found, or is not an InstructPix2Pix model."""


class OutputError(InstructX2XError):
    """A place that cannot be written to, or that holds an earlier result."""


def of_the_user(error: Exception) -> InstructX2XError | None:
    """The error as one that a user can act on, or None where it is a defect of this package."""
    if isinstance(error, InstructX2XError):
        return error
    # NumPy and Pillow say it with MemoryError, the system with ENOMEM, torch on the CPU with words alone.
    short_of_memory = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if short_of_memory or (isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)):
        return InputError("not enough memory for this image: free some, or scale the image down")
    if isinstance(error, OSError) and not isinstance(error, BrokenPipeError) and error.strerror:
        # A disk that is full, a name that is too long, a folder without permission: whatever was not foreseen.
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes)) else ""
        return OutputError(f"{place}{error.strerror}: the file system refuses it; use another place or name")
    if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported to ask
        return ModelError("out of memory on the GPU: close what else uses it, or compute on the CPU (--device cpu)")
    return None
