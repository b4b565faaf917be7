"""Parsers of device output, on what real phones print (trimmed, serials changed) and on damaged
output.
"""

from toolkit.device import parsers
from toolkit.device.info import info_command, parse_info
from toolkit.device.local import LocalDevice

GETPROP_PIXEL = """\
[dalvik.vm.heapsize]: [512m]
[persist.sys.timezone]: [Europe/Berlin]
[ro.boot.bootreason]: []
[ro.build.version.release]: [15]
[ro.build.version.sdk]: [35]
[ro.product.cpu.abi]: [arm64-v8a]
[ro.product.cpu.abilist]: [arm64-v8a]
[ro.product.manufacturer]: [Google]
[ro.product.model]: [Pixel 8]
[ro.vendor.build.fingerprint]: [google/shiba/shiba:15/AP4A.250105.002/12701944:user/release-keys]
"""

# toybox df -k; older releases print the header with other spacing.
DF_TOYBOX = """\
Filesystem       1K-blocks     Used Available Use% Mounted on
/dev/block/dm-52 114883584 41320448  73546752  36% /data
"""
DF_ANDROID_8 = """\
Filesystem           1K-blocks    Used Available Use% Mounted on
/dev/block/bootdevice/by-name/userdata
                      53608448 9163096  44424968  18% /data
"""
DF_GNU = """\
Filesystem     1K-blocks     Used Available Use% Mounted on
/dev/vda       263112772 18043108  76773952  20% /
"""

MEMINFO = """\
MemTotal:        7709940 kB
MemFree:          310460 kB
MemAvailable:    3290052 kB
Active(anon):    1743564 kB
HugePages_Total:       0
SwapTotal:       3854964 kB
"""

BATTERY = """\
Current Battery Service state:
  AC powered: false
  USB powered: true
  Max charging current: 500000
  Charge counter: 2703000
  status: 2
  health: 2
  present: true
  level: 78
  scale: 100
  voltage: 4182
  temperature: 287
  technology: Li-ion
"""

SHA256SUM = """\
sha256sum: /data/local/tmp/toolkit/none: No such file or directory
e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  /data/local/tmp/toolkit/empty
\\ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  /data/back\\\\slash
BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD  /data/upper
ba7816bf  /data/short
"""

STAT = """\
81a4 5138 1736899200 /data/local/tmp/toolkit/runs/run1/trace.jsonl
41ed 3452 1736899201 /data/local/tmp/toolkit/runs/run1/with space
a1ff 11 1736899202 /data/local/tmp/toolkit/runs/run1/link
stat: '/data/x': No such file or directory
81a4 -5 1736899200 /negative
81a4 99999999999999999999999 1 /overflow
"""


def test_getprop():
    properties = parsers.parse_getprop(GETPROP_PIXEL)
    assert properties["ro.product.model"] == "Pixel 8"
    assert properties["ro.boot.bootreason"] == ""
    assert parsers.parse_getprop("garbage\n[half]: [\n") == {}


def test_getprop_with_carriage_returns():
    text = GETPROP_PIXEL.replace("\n", "\r\n")
    assert parsers.parse_getprop(text) == parsers.parse_getprop(GETPROP_PIXEL)


def test_df():
    assert parsers.parse_df(DF_TOYBOX) == 73546752 * 1024
    assert parsers.parse_df(DF_ANDROID_8) == 44424968 * 1024
    assert parsers.parse_df(DF_GNU) == 76773952 * 1024
    for damaged in ("", "df: /data: Permission denied\n", "Filesystem Used\n/dev 1\n", "a\nb\n"):
        assert parsers.parse_df(damaged) is None


def test_meminfo():
    memory = parsers.parse_meminfo(MEMINFO)
    assert (memory["MemTotal"], memory["MemAvailable"]) == (7709940, 3290052)
    assert memory["Active(anon)"] == 1743564
    assert "HugePages_Total" not in memory  # a count, not KiB


def test_battery():
    assert parsers.parse_battery(BATTERY) == parsers.Battery(78, 28.7, True)
    discharging = BATTERY.replace("status: 2", "status: 3")
    assert parsers.parse_battery(discharging) == parsers.Battery(78, 28.7, False)
    assert parsers.parse_battery("Can't find service: battery\n") is None
    assert parsers.parse_battery("  level: many\n  temperature: 1e9\n") is None


def test_sha256sum():
    digests = parsers.parse_sha256sum(SHA256SUM)
    assert digests["/data/local/tmp/toolkit/empty"].startswith("e3b0c442")
    # Upper case, short digests and error lines are no digests.
    assert set(digests) == {"/data/local/tmp/toolkit/empty", "/data/back\\\\slash"}


def test_stat():
    entries = parsers.parse_stat(STAT)
    assert [(entry.name, entry.kind) for entry in entries] == [
        ("trace.jsonl", "file"),
        ("with space", "directory"),
        ("link", "symlink"),
    ]
    assert entries[0].size == 5138 and entries[0].modified == 1736899200


def test_page_size():
    assert parsers.parse_page_size("16384\n") == 16384
    assert parsers.parse_page_size("KernelPageSize:        4 kB\n") == 4096
    assert parsers.parse_page_size("getconf: not found\n") is None


def test_machine():
    assert parsers.parse_machine("aarch64\n") == "arm64-v8a"
    assert parsers.parse_machine("x86_64") == "x86_64"
    assert parsers.parse_machine("riscv64") is None


def test_info_of_a_phone():
    text = f"""\
@@toolkit getprop
{GETPROP_PIXEL}@@toolkit machine
aarch64
@@toolkit kernel
5.15.148-android14-11
@@toolkit meminfo
{MEMINFO}@@toolkit page
16384
@@toolkit cores
9
@@toolkit df
{DF_TOYBOX}@@toolkit battery
{BATTERY}"""
    info = parse_info(text, device="SERIAL", kind="adb")
    assert (info.model, info.abi, info.release, info.sdk) == (
        "Google Pixel 8",
        "arm64-v8a",
        "Android 15",
        35,
    )
    assert (info.page_size, info.cores, info.free_bytes) == (16384, 9, 73546752 * 1024)
    assert info.battery.level == 78


def test_info_is_harmless_text():
    text = "@@toolkit getprop\n[ro.product.model]: [\x1b[31mEvil\u202e]\n" + "x" * 1000
    info = parse_info(text, device="SERIAL", kind="adb")
    assert "\x1b" not in info.model and "\u202e" not in info.model
    assert info.abi == "unknown" and info.memory_total_kib is None


def test_info_of_this_machine(tmp_path):
    with LocalDevice(tmp_path) as device:
        info = device.info()
    assert info.abi in ("x86_64", "arm64-v8a")
    assert info.memory_total_kib > info.memory_available_kib > 0
    assert info.page_size in (4096, 16384, 65536)
    assert info.free_bytes > 0 and info.cores > 0
    assert "getprop" in info_command(device.root)
