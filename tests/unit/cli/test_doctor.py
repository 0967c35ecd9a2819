from __future__ import annotations

import pytest

from stillhouse.cli.doctor import processor_findings


@pytest.mark.parametrize(
    ("flags", "mark"),
    [
        ({"avx2", "avx512_vnni"}, "ok"),
        ({"avx2", "avx_vnni"}, "ok"),
        ({"avx2"}, "note"),
        ({"sse4_2"}, "bad"),
        (set(), "note"),
    ],
)
def test_what_instruction_sets_mean(flags, mark):
    """VNNI is full speed, AVX2 alone is slower, without AVX2 the engine cannot run."""
    assert [mark] == [finding.mark for finding in processor_findings(frozenset(flags), 2)]
