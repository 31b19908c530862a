"""A universal patch: learned on some recordings, judged on others, the best there is on a linear read-out."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor, nn

from spikeproof.encoders.frames import Frames
from spikeproof.errors import SpikeproofError, UsageError
from spikeproof.evaluation.patch import Patch, learn_patch, patch_rows, random_patch
from spikeproof.rules.atan import ATan
from spikeproof.tensors import image_keys, normal, uniform
from spikeproof.types import Rule
from spikeproof.victims.batch import Batch
from spikeproof.victims.victim import Victim

T, SIDE = 2, 3
SHAPE = (T, 2, SIDE, SIDE)
WEIGHT = normal(image_keys(1, torch.arange(1)), SHAPE)[0].double()


class Weighed(nn.Module):
    """Two classes by a weighted sum of the cells."""

    in_channels, classes = 2, 2

    def classify(self, z: Tensor, rule: Rule) -> Tensor:
        score = (z.transpose(0, 1) * WEIGHT).flatten(1).sum(1)
        return torch.stack([torch.zeros_like(score), score], 1)


VICTIM = Victim(Weighed(), Frames(), T).eval()
CORNER = torch.zeros(SIDE, SIDE, dtype=torch.bool)
CORNER[0, :2] = True  # eight cells over time and polarity


def batch(first: int, count: int) -> Batch:
    """Recordings of class 1, so that one pattern is the worst for all of them."""
    x = (uniform(image_keys(2, torch.arange(first, first + 40 * count)), SHAPE) > 0.6).double()
    x = x[(x * WEIGHT).flatten(1).sum(1) > 0][:count]
    return Batch.of(VICTIM, x, torch.ones(len(x), dtype=torch.int64), torch.arange(first, first + len(x)), 0)


TRAIN, TEST = batch(0, 12), batch(5000, 40)


def fooled(rows: list[dict[str, object]]) -> list[object]:
    return [row["fooled"] for row in rows]


@pytest.mark.parametrize("steps", [1, 6])
def test_on_a_linear_read_out_the_best_of_all_patterns_is_learned(steps: int) -> None:
    patch = learn_patch(VICTIM, TRAIN, CORNER, ATan(), steps=steps, batch_size=5)
    mask = CORNER.expand(SHAPE)
    worst = min(
        float((torch.tensor(cells).double() * WEIGHT[mask]).sum()) for cells in itertools.product((0.0, 1.0), repeat=8)
    )
    assert float((patch.pattern[mask] * WEIGHT[mask]).sum()) == pytest.approx(worst)
    assert not patch.pattern[~mask].any()


def test_it_is_judged_on_other_recordings_by_the_deployed_network() -> None:
    patch = learn_patch(VICTIM, TRAIN, CORNER, ATan(), batch_size=5)
    rows = patch_rows(VICTIM, TEST, patch, ATan())
    x = TEST.x.clone()
    x[:, :, :, 0, :2] = patch.pattern[:, :, 0, :2]
    truth = (x * WEIGHT).flatten(1).sum(1) <= 0
    assert fooled(rows) == truth.tolist()  # type: ignore[arg-type]
    assert 0 < truth.sum() < len(truth)
    assert {(row["surface"], row["norm"], row["eps"], row["attack"]) for row in rows} == {
        ("events", "patch", 8.0, "patch")
    }
    changed = (x != TEST.x).flatten(1).sum(1).tolist()
    assert [row["distance"] for row in rows] == changed


def test_a_recording_that_it_was_learned_on_is_refused() -> None:
    patch = learn_patch(VICTIM, TRAIN, CORNER, ATan(), steps=1)
    mixed = Batch.of(VICTIM, torch.cat([TEST.x, TRAIN.x[:2]]), torch.ones(42, dtype=torch.int64), torch.arange(42), 0)
    with pytest.raises(SpikeproofError, match=r"not learned on, got 2 that it was.*test split"):
        patch_rows(VICTIM, mixed, patch, ATan())


def test_the_control_has_as_many_events_under_the_same_mask() -> None:
    patch = learn_patch(VICTIM, TRAIN, CORNER, ATan())
    control = random_patch(patch, seed=3)
    assert control.pattern.sum() == patch.pattern.sum() > 0
    assert not control.pattern[~patch.mask].any()
    assert not torch.equal(control.pattern, patch.pattern)
    assert sum(map(bool, fooled(patch_rows(VICTIM, TEST, control, ATan())))) < sum(  # type: ignore[arg-type]
        map(bool, fooled(patch_rows(VICTIM, TEST, patch, ATan())))  # type: ignore[arg-type]
    )


def test_only_the_patched_recording_is_within_the_threat() -> None:
    patch = learn_patch(VICTIM, TRAIN, CORNER, ATan())
    put = patch.project(TEST.x, TEST.x)
    assert torch.isfinite(patch.distance(put, TEST.x)).all()
    outside, inside = put.clone(), put.clone()
    outside[:, 0, 0, 2, 2] = 1 - outside[:, 0, 0, 2, 2]
    inside[:, 0, 0, 0, 0] = 1 - inside[:, 0, 0, 0, 0]
    for other in (outside, inside):
        assert torch.isinf(patch.distance(other, TEST.x)).all()


def test_what_does_not_fit_is_refused() -> None:
    for mask in (torch.ones(SIDE, SIDE), torch.ones(4, 4, dtype=torch.bool), ~torch.ones(SIDE, SIDE, dtype=torch.bool)):
        with pytest.raises(UsageError, match=r"a mask of bool, not empty.*\(2, 2, 3, 3\)"):
            learn_patch(VICTIM, TRAIN, mask, ATan())
    with pytest.raises(UsageError, match="ones and zeros"):
        Patch(CORNER, torch.full((SIDE, SIDE), 0.5))
    with pytest.raises(UsageError, match="steps >= 1"):
        learn_patch(VICTIM, TRAIN, CORNER, ATan(), steps=0)
