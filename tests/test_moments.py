"""Sums of maps and of their squares in C, held to Python's exact sums."""

from __future__ import annotations

from math import fsum

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeproof import native
from spikeproof.native.moments import moments

pytestmark = pytest.mark.skipif(not native.available(), reason="no C compiler here, or SPIKEPROOF_FAST=0")


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3), st.sampled_from([1, 2, 7, 16, 33]), st.lists(st.integers(1, 9), min_size=1, max_size=3),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_they_are_exact_but_for_rounding(images: int, channels: int, space: list[int], last: bool, seed: int) -> None:
    x = torch.randn(images, channels, *space, generator=torch.Generator().manual_seed(seed)) - 3.0
    if last and len(space) == 2:
        x = x.contiguous(memory_format=torch.channels_last)
    found = moments(x)
    assert found is not None
    for values, each in zip(found, (x, x.double().square()), strict=True):
        assert values.shape == (images, channels)
        exact = [[fsum(each[n, c].double().flatten().tolist()) for c in range(channels)] for n in range(images)]
        torch.testing.assert_close(values, torch.tensor(exact, dtype=torch.float64), rtol=1e-14, atol=1e-13)


def test_many_threads_change_no_bit() -> None:
    x = torch.randn(64, 16, 8, 8, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(moments(x))
    finally:
        torch.set_num_threads(before)
    one, three = found
    assert one is not None
    assert three is not None
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


def test_of_other_tensors_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.rand(2, 3, 4, 4)
    assert moments(x) is not None
    for other in (x.double(), x[:0], x[:, :, ::2], x[:, 0, 0]):
        assert moments(other) is None
    monkeypatch.setenv("SPIKEPROOF_FAST", "0")
    assert moments(x) is None
