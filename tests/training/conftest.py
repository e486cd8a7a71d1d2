"""What the tests of long runs share."""

from contextlib import contextmanager

import pytest


@pytest.fixture
def full_disk():
    """full_disk(limit): a context in which no file takes more than `limit` bytes, as on a disk that runs full."""
    resource = pytest.importorskip("resource", reason="needs a limit on the size of files")

    @contextmanager
    def limited(limit):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited
