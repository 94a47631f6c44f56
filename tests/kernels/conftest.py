"""What tests of the kernels share."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from aiexplained_kernels import _native


@pytest.fixture
def set_build(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], None]]:
    """Set how C++ is built, as before a process's first use; then it is as it was."""

    def set_(name: str, value: str) -> None:
        monkeypatch.setenv(f"AIEXPLAINED_KERNELS_{name}", value)
        _native._load.cache_clear()

    yield set_
    _native._load.cache_clear()
