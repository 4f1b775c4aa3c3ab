"""Heads: one linear map, named parts, float32."""

import pytest
import torch

from neuralop.decoders import FieldHeads


def test_fields_are_columns_of_one_map():
    torch.manual_seed(0)
    heads = FieldHeads(6, {"pressure": 1, "velocity": 3})
    tokens = torch.randn(2, 5, 6)
    found = heads(tokens)
    torch.testing.assert_close(torch.cat(list(found.values()), -1), heads.linear(tokens))
    assert list(found) == ["pressure", "velocity"]
    assert sum(parameter.numel() for parameter in heads.parameters()) == 4 * (6 + 1)


def test_predictions_are_not_rounded():
    torch.manual_seed(0)
    heads = FieldHeads(6, {"pressure": 1}, norm="layer")
    tokens = torch.randn(1, 3, 6)
    with torch.autocast("cpu", torch.bfloat16):
        found = heads(tokens)["pressure"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, heads(tokens)["pressure"], rtol=0, atol=0)


def test_needs_fields():
    with pytest.raises(ValueError, match="one component or more"):
        FieldHeads(6, {})
