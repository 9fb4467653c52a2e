"""The examples in cas/README.md are what the code makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import samebits.cas
from samebits.cas import Node, encode_node, hash_blob, node_address, tensor_node, tree_address
from samebits.cas.encoding import encode
from samebits.cas.environment import FORMAT_RECORD
from samebits.cas.records import ObjectRecord, encode_record


def test_readme_shows_what_the_code_makes() -> None:
    assert samebits.cas.__file__ is not None
    text = (Path(samebits.cas.__file__).parent / "README.md").read_text()
    note = Node("note", {"text": "hi"})
    tensor = tensor_node(np.array([1, 2], np.float32))[0]
    assert f"`{hash_blob(b'hello')}`" in text
    assert f"`{encode({'b': 1, 'a': [b'x', None]}).hex()}`" in text
    assert f"`{encode_node(note).hex()}`" in text
    assert f"`{node_address(note)}`" in text
    assert f"`{encode_node(tensor).hex()}`" in text
    assert f"`{node_address(tensor)}`" in text
    assert f"`{tree_address({'weight': node_address(tensor)})}`" in text
    assert f"`{encode_record(ObjectRecord('blob', 5, b'hello', ()), 1).hex()}`" in text
    assert encode({"format": "samebits-cas", "version": 2}) == FORMAT_RECORD
