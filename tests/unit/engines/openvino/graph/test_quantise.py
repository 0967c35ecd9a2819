"""Quantised matrices against the ones they were made from."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from stillhouse.engines.openvino.graph.quantise import (
    int4_group_size,
    quantise_int4,
    quantise_int8,
)
from tests.effort import examples

matrices = arrays(
    np.float32, (3, 64), elements=st.floats(-1000, 1000, width=32, allow_subnormal=False)
)


def unpack_int4(packed, scales):
    """Sign-extend both halves of each byte, the lower one first."""
    halves = np.stack([packed & 15, packed >> 4], axis=-1).reshape(len(packed), -1)
    signed = halves.astype(np.int8)
    signed[signed > 7] -= 16
    groups = signed.reshape(*scales.shape[:2], -1)
    return (groups * scales.astype(np.float32)).reshape(len(packed), -1)


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(matrices)
def test_int8_is_within_half_a_scale(rows):
    """No value moves further than rounding must move it."""
    integers, scales = quantise_int8(rows)
    widened = scales.astype(np.float32)
    assert np.isfinite(widened).all()
    assert (np.abs(integers * widened - rows) <= 0.5001 * widened).all()
    assert np.abs(integers.astype(np.int32)).max() <= 127


@settings(max_examples=examples(100), deadline=None, derandomize=True)
@given(matrices)
def test_int4_is_within_a_scale(rows):
    """The largest of a group is kept nearly exactly, the rest to within one step."""
    packed, scales = quantise_int4(rows, 32)
    restored = unpack_int4(packed, scales)
    step = np.repeat(np.abs(scales[..., 0].astype(np.float32)), 32, axis=1)
    assert (np.abs(restored - rows) <= 1.01 * step + 1e-5).all()


@pytest.mark.parametrize("value", [0.0, 1e-12])
def test_rows_of_nothing_stay_nothing(value):
    """A row too small for float16 scales does not become a division by zero."""
    rows = np.full((2, 64), value, np.float32)
    integers, scales = quantise_int8(rows)
    packed, group_scales = quantise_int4(rows, 32)
    np.testing.assert_allclose(integers * scales.astype(np.float32), 0, atol=1e-7)
    np.testing.assert_allclose(unpack_int4(packed, group_scales), 0, atol=1e-7)


def test_int4_needs_rows_that_can_be_divided():
    """Rows that no group size divides are kept at 8 bits."""
    assert [64, 32, None] == [int4_group_size(n) for n in (256, 96, 100)]
