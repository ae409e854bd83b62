"""Batch normalisation of rows with multiplicities is that of PyTorch on the expanded batch."""

import pytest
import torch
from torch import nn

from pertexp.nn.weighted_norm import WeightedBatchNorm, remember


def norms(**options):
    torch.manual_seed(0)
    ours, theirs = WeightedBatchNorm(3, **options), nn.BatchNorm1d(3, **options)
    for norm in (ours, theirs):
        nn.init.constant_(norm.weight, 1.5)
        nn.init.constant_(norm.bias, -0.5)
    return ours, theirs


@pytest.mark.parametrize("momentum", [0.1, 0.4])
def test_a_row_of_weight_w_counts_as_w_rows(momentum):
    ours, theirs = norms(momentum=momentum)
    rows, weight = torch.randn(5, 3), torch.tensor([1.0, 3.0, 0.0, 2.0, 4.0])
    expanded = rows.repeat_interleave(weight.long(), dim=0)
    for _ in range(2):
        found, expected = ours(rows, weight), theirs(expanded)
    torch.testing.assert_close(found.repeat_interleave(weight.long(), dim=0), expected, rtol=1e-5, atol=1e-6)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)
    assert ours.num_batches_tracked == 2
    torch.testing.assert_close(ours.eval()(rows, weight), theirs.eval()(rows), rtol=1e-5, atol=1e-6)


def test_a_norm_without_running_statistics_remembers_none():
    norm = nn.BatchNorm1d(3, track_running_stats=False)
    remember(norm, torch.ones(3), torch.ones(3), 4)
    assert not norm.state_dict().keys() & {"running_mean", "running_var", "num_batches_tracked"}


def test_the_variance_of_one_row_is_not_divided_by_nothing():
    norm = nn.BatchNorm1d(2)
    remember(norm, torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0]), 1)
    torch.testing.assert_close(norm.running_var, torch.tensor([0.9 + 0.3, 0.9 + 0.4]))
    torch.testing.assert_close(norm.running_mean, torch.tensor([0.1, 0.2]))
