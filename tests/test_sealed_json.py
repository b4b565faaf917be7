"""JSON that carries its checksum."""

import json
import zlib

from toolkit.sealed_json import is_sealed, seal

CONTENT = {"name": "é", "lr": 1e-08, "steps": 50, "nested": {"b": [1, None], "a": True}, 7: "x"}


def test_the_checksum_is_what_its_page_says():
    text = '{"a":1,"b":"x"}'
    assert seal({"b": "x", "a": 1}) == {
        "b": "x",
        "a": 1,
        "crc32": f"{zlib.crc32(text.encode()):08x}",
    }


def test_what_is_written_is_whole_when_it_is_read():
    sealed = seal(CONTENT)
    assert list(sealed)[-1] == "crc32" and is_sealed(sealed)
    for indent in (None, 1):
        assert is_sealed(json.loads(json.dumps(sealed, indent=indent)))
    assert seal(sealed | {"steps": 51}) == seal(CONTENT | {"steps": 51})


def test_no_changed_byte_passes():
    text = json.dumps(seal(CONTENT)).encode()
    for place in range(len(text)):
        for bit in range(8):
            changed = bytearray(text)
            changed[place] ^= 1 << bit
            try:
                found = json.loads(changed)
            except ValueError:
                continue
            assert found == json.loads(text) or not is_sealed(found), bytes(changed)


def test_what_has_no_checksum_is_not_whole():
    assert not is_sealed(CONTENT) and not is_sealed({}) and is_sealed(seal({}))
