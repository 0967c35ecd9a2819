"""Blocks are free, used or cached, and never two of these."""

from __future__ import annotations

import pytest

from stillhouse.engines.openvino.kv.blocks import (
    PUBLIC_ROOT,
    KVBlocks,
    block_hash,
    private_hash,
    root_hash,
)


def test_every_block_can_be_allocated_once():
    """The whole cache can be handed out, and not one block more."""
    blocks = KVBlocks(3)
    assert {0, 1, 2} == {blocks.allocate() for _ in range(3)}
    assert 0 == blocks.num_free
    with pytest.raises(IndexError):
        blocks.allocate()


def test_a_shared_block_is_free_when_its_last_user_is_gone():
    """Each use is given up on its own."""
    blocks = KVBlocks(1)
    block = blocks.allocate()
    blocks.share(block)
    blocks.release(block)
    assert blocks.is_used(block)
    blocks.release(block)
    assert (1, False) == (blocks.num_free, blocks.is_used(block))


def test_a_released_block_can_still_be_found():
    """What a block holds is of use until the block is handed out again."""
    blocks = KVBlocks(2)
    block = blocks.allocate()
    blocks.publish(block, b"prefix")
    blocks.release(block)
    assert block == blocks.find(b"prefix")
    blocks.allocate()
    blocks.allocate()
    assert blocks.find(b"prefix") is None


def test_the_least_recently_released_is_reused_first():
    """Free blocks go before cached ones, and old prefixes before new ones."""
    blocks = KVBlocks(3)
    held = [blocks.allocate() for _ in range(3)]
    for block, name in zip(held, [b"a", b"b"], strict=False):
        blocks.publish(block, name)
    for block in held:
        blocks.release(block)
    assert [held[2], held[0], held[1]] == [blocks.allocate() for _ in range(3)]


def test_sharing_a_cached_block_takes_it_out_of_reach():
    """A cached block that is used again cannot be handed to somebody else."""
    blocks = KVBlocks(1)
    block = blocks.allocate()
    blocks.publish(block, b"prefix")
    blocks.release(block)
    blocks.share(block)
    assert 0 == blocks.num_free


def test_the_first_to_publish_a_prefix_stays_its_holder():
    """Two blocks with the same content do not shadow each other."""
    blocks = KVBlocks(2)
    first, second = blocks.allocate(), blocks.allocate()
    blocks.publish(first, b"prefix")
    blocks.publish(second, b"prefix")
    blocks.release(second)
    assert first == blocks.find(b"prefix")
    assert second == blocks.allocate()


def test_a_hash_depends_on_salt_tokens_and_all_before():
    """Equal hashes mean equal salts and equal prefixes; the empty salt is not what is public."""
    tokens = b"12345678"
    parents = [
        PUBLIC_ROOT,
        *map(root_hash, [("",), ("", ""), ("a",), ("ab",), ("a", "b"), ("b", "a"), ("aab",)]),
        private_hash(PUBLIC_ROOT, ""),
        private_hash(PUBLIC_ROOT, "a"),
        private_hash(block_hash(PUBLIC_ROOT, tokens), "a"),
        block_hash(private_hash(PUBLIC_ROOT, ""), tokens),
    ]
    hashes = [block_hash(parent, tokens) for parent in parents]
    hashes.append(block_hash(PUBLIC_ROOT, tokens[::-1]))
    assert len(hashes) == len({*hashes})
    assert block_hash(private_hash(PUBLIC_ROOT, "a"), tokens) in hashes
