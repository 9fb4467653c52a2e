"""RFC 6962 trees: known roots, proofs of every shape, and everything that must be refused."""

from __future__ import annotations

import random
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from samebits.ledger.errors import ProofError
from samebits.ledger.merkle import (
    EMPTY_ROOT,
    CompactRange,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    root_hash,
)

# The test vectors of Certificate Transparency.
CT_ENTRIES = [
    bytes.fromhex(text)
    for text in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
CT_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def leaves(count: int) -> list[bytes]:
    return [leaf_hash(b"entry %d" % i) for i in range(count)]


def test_root_hash_of_nothing_is_the_hash_of_nothing() -> None:
    assert root_hash([]) == EMPTY_ROOT == CompactRange().root_hash() == sha256(b"").digest()


@pytest.mark.parametrize("size", range(1, 9))
def test_root_hash_gives_the_vectors_of_certificate_transparency(size: int) -> None:
    hashes = [leaf_hash(entry) for entry in CT_ENTRIES[:size]]
    assert root_hash(hashes).hex() == CT_ROOTS[size - 1]


def test_compact_range_agrees_with_root_hash_at_every_size() -> None:
    tree, hashes = CompactRange(), leaves(260)
    for size, leaf in enumerate(hashes, 1):
        tree = tree.extended(leaf)
        assert tree.tree_size == size
        assert tree.root_hash() == root_hash(hashes[:size])


def test_inclusion_proof_is_accepted_for_every_leaf_of_small_trees() -> None:
    for size in range(1, 34):
        hashes = leaves(size)
        for index in range(size):
            check_inclusion(index, size, hashes[index], inclusion_proof(hashes, index), root_hash(hashes))


def test_consistency_proof_is_accepted_for_every_pair_of_small_trees() -> None:
    hashes = leaves(33)
    roots = [root_hash(hashes[:size]) for size in range(34)]
    for new in range(34):
        for old in range(new + 1):
            check_consistency(old, new, roots[old], roots[new], consistency_proof(hashes[:new], old))


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 40), st.data())
def test_check_inclusion_refuses_any_change(size: int, data: st.DataObject) -> None:
    hashes = leaves(size)
    index = data.draw(st.integers(0, size - 1))
    proof, root = list(inclusion_proof(hashes, index)), root_hash(hashes)
    changes = [
        (index, size, leaf_hash(b"other"), proof, root),
        (index, size, hashes[index], proof, leaf_hash(b"other")),
        (index, size, hashes[index], [*proof, root], root),
        (index, size, hashes[index], proof[:-1], root) if proof else (index, size, root, [root], root),
        (size, size, hashes[index], proof, root),
        (-1, size, hashes[index], proof, root),
        (index, size, hashes[index][:31], proof, root),
    ]
    if proof:
        place = data.draw(st.integers(0, len(proof) - 1))
        changes.append((index, size, hashes[index], [*proof[:place], bytes(32), *proof[place + 1 :]], root))
        changes.append((index, size, hashes[index], [*proof[:place], proof[place] + b"x", *proof[place + 1 :]], root))
    for other in range(size):
        if other != index:
            changes.append((other, size, hashes[index], proof, root))
    for bad_index, bad_size, leaf, bad_proof, bad_root in changes:
        with pytest.raises(ProofError):
            check_inclusion(bad_index, bad_size, leaf, bad_proof, bad_root)


@settings(max_examples=100, deadline=None)
@given(st.integers(2, 40), st.data())
def test_check_consistency_refuses_any_change(new: int, data: st.DataObject) -> None:
    hashes = leaves(new)
    old = data.draw(st.integers(1, new - 1))
    proof = list(consistency_proof(hashes, old))
    old_root, new_root = root_hash(hashes[:old]), root_hash(hashes)
    place = data.draw(st.integers(0, len(proof) - 1))
    changed = [*proof[:place], bytes(32), *proof[place + 1 :]]
    for arguments in [
        (old, new, old_root, new_root, changed),
        (old, new, old_root, new_root, [*proof, new_root]),
        (old, new, old_root, new_root, proof[:-1]),
        (old, new, old_root, new_root, []),
        (old, new, new_root, new_root, proof),
        (old, new, old_root, old_root, proof),
        (new, old, new_root, old_root, proof),
        (-1, new, old_root, new_root, proof),
        (old, new, old_root, new_root, [*proof[:-1], proof[-1][:31]]),
    ]:
        with pytest.raises(ProofError):
            check_consistency(*arguments)


def test_check_consistency_accepts_an_empty_proof_from_the_empty_tree_only() -> None:
    hashes = leaves(3)
    root = root_hash(hashes)
    check_consistency(0, 3, EMPTY_ROOT, root, [])
    check_consistency(0, 0, EMPTY_ROOT, EMPTY_ROOT, [])
    check_consistency(3, 3, root, root, [])
    for arguments in [
        (0, 3, EMPTY_ROOT, root, [root]),
        (0, 3, root, root, []),
        (0, 0, root, root, []),
        (3, 3, root, hashes[0], []),
        (3, 3, root, root, [root]),
    ]:
        with pytest.raises(ProofError):
            check_consistency(*arguments)


def test_proofs_refuse_what_is_outside_the_tree() -> None:
    for index in (-1, 3):
        with pytest.raises(ValueError, match="not in a tree of 3"):
            inclusion_proof(leaves(3), index)
    for size in (-1, 4):
        with pytest.raises(ValueError, match="no prefix"):
            consistency_proof(leaves(3), size)


def test_proofs_hold_in_a_tree_of_100_000() -> None:
    hashes = leaves(100_000)
    root = root_hash(hashes)
    chosen = random.Random(1)
    for index in (0, 65_535, 65_536, 99_999, chosen.randrange(100_000)):
        check_inclusion(index, 100_000, hashes[index], inclusion_proof(hashes, index), root)
        check_consistency(
            index + 1, 100_000, root_hash(hashes[: index + 1]), root, consistency_proof(hashes, index + 1)
        )
