"""Sending folders: delta, continuing, damage, space; above the protocol, so on the local device."""

import hashlib
from pathlib import Path

import pytest

from toolkit.device import DeviceCommandError, DeviceLost
from toolkit.device.layout import choose, list_deployed, read_marker
from toolkit.device.local import LocalDevice
from toolkit.device.transfer import push_folder, scan
from toolkit.errors import ToolkitError


class Fragile(LocalDevice):
    """A device that can break off, damage what it is sent, or be full."""

    def __init__(self, root):
        super().__init__(root)
        self.break_after = None
        self.damage = 0
        self.free = None

    def append(self, path, source, length, on_bytes):
        super().append(path, source, length if self.break_after is None else 0, on_bytes)
        if self.break_after is not None:
            super().append(path, source, min(self.break_after, length), on_bytes)
            raise DeviceLost(self.spec, "cable pulled")
        if self.damage and path.endswith(".part"):
            self.damage -= 1
            self.check(f"printf X | dd of='{path}' bs=1 seek=1 conv=notrunc")

    def free_bytes(self):
        return super().free_bytes() if self.free is None else self.free


@pytest.fixture
def device(tmp_path):
    with Fragile(tmp_path / "root") as device:
        yield device


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "bundle"
    (folder / "sub").mkdir(parents=True)
    (folder / "base.ptd").write_bytes(bytes(range(256)) * 5000)
    (folder / "it's [a] name").write_bytes(b"quoted")
    (folder / "sub/inner").write_bytes(b"inner")
    (folder / "empty").write_bytes(b"")
    (folder / ".hidden").write_bytes(b"not sent")
    return folder


def contents(path):
    return {
        file.relative_to(path).as_posix(): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != ".deployed.json"
    }


def target_of(device):
    return f"{device.root}/bundles/b"


def remote(device):
    return Path(target_of(device))


def expected(folder):
    return {name: data for name, data in contents(folder).items() if name != ".hidden"}


def test_first_second_and_changed_push(device, folder):
    report = push_folder(device, scan(folder), target_of(device))
    assert contents(remote(device)) == expected(folder)
    assert report.sent == sum(len(data) for data in expected(folder).values())
    again = push_folder(device, scan(folder), target_of(device))
    assert (again.sent, again.files) == (0, 0)
    (folder / "sub/inner").write_bytes(b"INNER")  # same size
    (folder / "empty").unlink()
    changed = push_folder(device, scan(folder), target_of(device))
    assert (changed.sent, changed.files) == (5, 1)
    assert contents(remote(device)) == expected(folder)


def test_a_broken_push_goes_on_where_it_stopped(device, folder):
    device.break_after = 300_000
    with pytest.raises(DeviceLost, match="run the same command again"):
        push_folder(device, scan(folder), target_of(device))
    assert read_marker(device, target_of(device)) is None
    assert "base.ptd" not in contents(remote(device))
    device.break_after = None
    moves = []
    report = push_folder(
        device,
        scan(folder),
        target_of(device),
        progress=lambda name, done, total: moves.append((done, total)),
    )
    assert report.resumed == 300_000
    assert contents(remote(device)) == expected(folder)
    assert read_marker(device, target_of(device)) is not None
    assert moves == sorted(moves) and moves[-1][0] == moves[-1][1]


def test_a_part_with_other_bytes_is_not_continued(device, folder):
    device.break_after = 300_000
    with pytest.raises(DeviceLost):
        push_folder(device, scan(folder), target_of(device))
    device.break_after = None
    [part] = remote(device).glob(".*.part")
    part.write_bytes(b"?" * 300_000)
    moves = []
    report = push_folder(
        device,
        scan(folder),
        target_of(device),
        progress=lambda name, done, total: moves.append(done),
    )
    assert report.resumed == 0
    assert moves == sorted(moves), "it was continued and sent again"
    assert contents(remote(device)) == expected(folder)


def test_a_part_of_an_older_file_is_removed(device, folder):
    device.break_after = 300_000
    with pytest.raises(DeviceLost):
        push_folder(device, scan(folder), target_of(device))
    device.break_after = None
    (folder / "base.ptd").write_bytes(b"new content")
    push_folder(device, scan(folder), target_of(device))
    assert contents(remote(device)) == expected(folder)


def test_damage_on_the_way_is_sent_again_once(device, folder):
    device.damage = 1
    report = push_folder(device, scan(folder), target_of(device))
    assert contents(remote(device)) == expected(folder)
    assert report.sent == sum(len(data) for data in expected(folder).values())
    (folder / "base.ptd").write_bytes(b"other content")
    device.damage = 2
    with pytest.raises(DeviceCommandError, match=r"base\.ptd arrived damaged"):
        push_folder(device, scan(folder), target_of(device))
    assert read_marker(device, target_of(device)) is None


def test_damage_at_rest_is_found_and_repaired(device, folder):
    push_folder(device, scan(folder), target_of(device))
    stored = remote(device) / "base.ptd"
    data = bytearray(stored.read_bytes())
    data[4321] ^= 1
    stored.write_bytes(data)
    report = push_folder(device, scan(folder), target_of(device))
    assert report.files == 1
    assert contents(remote(device)) == expected(folder)


def test_space_is_checked_before_anything_is_sent(device, folder):
    device.free = 1 << 20
    with pytest.raises(ToolkitError, match=r"1 MB free, 18 MB are needed"):
        push_folder(device, scan(folder), target_of(device))
    assert contents(remote(device)) == {}


def test_what_is_there_stays_complete_when_another_does_not_fit(device, folder):
    target = f"{device.root}/bundles/one"
    push_folder(device, scan(folder), target)
    sent = choose(device, "bundles", "one").sha256
    (folder / "base.ptd").write_bytes(b"other" * 4_000_000)
    device.free = 1 << 20
    with pytest.raises(ToolkitError, match="MB are needed"):
        push_folder(device, scan(folder), target)
    assert choose(device, "bundles", "one").sha256 == sent


def test_executables_stay_executable(device, folder):
    (folder / "empty").chmod(0o755)
    push_folder(device, scan(folder), target_of(device))
    assert (remote(device) / "empty").stat().st_mode & 0o111 == 0o111
    assert (remote(device) / "base.ptd").stat().st_mode & 0o111 == 0


def test_the_last_complete_one_is_chosen(device, folder):
    for name in ("one", "two"):
        push_folder(device, scan(folder), f"{device.root}/bundles/{name}")
    device.make_directory(f"{device.root}/bundles/three")
    device.write(f"{device.root}/bundles/three/.deployed.json", b'{"time": [], "sha256": 1}')
    assert choose(device, "bundles", None).name == "two"
    push_folder(device, scan(folder), f"{device.root}/bundles/one")
    assert choose(device, "bundles", None).name == "one"
    assert choose(device, "bundles", "one").name == "one"
    with pytest.raises(ToolkitError, match=r"'three' is complete .*one, two"):
        choose(device, "bundles", "three")
    assert [item.name for item in list_deployed(device, "bundles")] == ["one", "two"]


def test_digests_are_those_of_the_files(folder):
    for file in scan(folder):
        assert file.sha256 == hashlib.sha256((folder / file.name).read_bytes()).hexdigest()
