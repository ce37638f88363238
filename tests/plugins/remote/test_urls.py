"""Wrong URLs of executors."""

from __future__ import annotations

import pytest
from cano import ConfigurationError, Kernel


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("process://?workers=0", "workers must be a whole number"),
        ("process://?workers=many", "workers must be a whole number"),
        ("process://?worker=1", "unknown option 'worker' (did you mean 'workers'?)"),
        ("process://host", "names a host or path; write process://?workers=N"),
        ("proces://", "did you mean 'process"),
        ("dask://", "names no scheduler; write dask://host:8786"),
        ("dask://local?workers=0", "workers must be a whole number"),
        ("dask://local?worker=1", "unknown option 'worker' (did you mean 'workers'?)"),
        ("dask://host:8786?workers=1", "which only dask://local has"),
        ("ray://", "names no cluster; write ray://host:6379"),
        ("ray://local?workers=0", "workers must be a whole number"),
        ("ray://local?worker=1", "unknown option 'worker' (did you mean 'workers'?)"),
        ("ray://host:6379?workers=1", "which only ray://local has"),
        ("ray://host", "names no port of the head; write ray://host:6379"),
    ],
)
async def test_wrong_urls(url: str, problem: str) -> None:
    """The error names the option and what it may be."""
    with pytest.raises(ConfigurationError) as caught:
        async with Kernel(executor=url):
            pass
    assert problem in str(caught.value)
