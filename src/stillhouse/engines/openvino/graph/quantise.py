"""Quantises matrices to symmetric integers with float16 scales, in OpenVINO's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST_SCALE = np.float32(2.0**-24)  # the smallest float16 above 0


def int4_group_size(num_columns: int) -> int | None:
    """Returns the number of neighbours that share a scale; None if the row is not divisible."""
    return next((size for size in (64, 32) if num_columns % size == 0), None)


def quantise_int8(rows: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """
    Quantises each row to -127..127 with one scale.

    Args:
        rows: float32, shape (rows, columns).

    Returns:
        Integers, shape (rows, columns), and scales, shape (rows, 1); their product is *rows* to
        within half a scale.

    """
    largest = np.abs(rows).max(axis=1, keepdims=True)
    scales = np.maximum(largest / np.float32(127), SMALLEST_SCALE).astype(np.float16)
    is_short = scales.astype(np.float32) * 127 < largest  # rounded down, it would clip the largest
    scales[is_short] = np.nextafter(scales[is_short], np.float16(np.inf))
    quotients = np.rint(rows / scales.astype(np.float32))
    return np.clip(quotients, -127, 127).astype(np.int8), scales


def quantise_int4(
    rows: NDArray[np.float32], group_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float16]]:
    """
    Quantises each group of *group_size* neighbours in a row to -8..7 with one scale.

    The largest value of a group becomes -8, whatever its sign, so that all 16 steps are used.

    Args:
        rows: float32, shape (rows, columns).
        group_size: Divides the number of columns.

    Returns:
        Packed pairs, the lower half first, shape (rows, columns / 2), and scales (negative where
        the largest value is positive), shape (rows, columns / group_size, 1).

    """
    num_rows, num_columns = rows.shape
    groups = rows.reshape(num_rows, num_columns // group_size, group_size)
    at_largest = np.abs(groups).argmax(axis=2)[..., None]
    scales = (np.take_along_axis(groups, at_largest, axis=2) / np.float32(-8)).astype(np.float16)
    scales[scales == 0] = np.float16(SMALLEST_SCALE)
    quotients = np.rint(groups / scales.astype(np.float32))
    signed = np.clip(quotients, -8, 7).astype(np.int8).reshape(num_rows, num_columns)
    nibbles = signed.view(np.uint8) & np.uint8(0x0F)
    packed: NDArray[np.uint8] = nibbles[:, 0::2] | (nibbles[:, 1::2] << np.uint8(4))
    return packed, scales
