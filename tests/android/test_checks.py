"""The checks of the finished APK object to what they are there for."""

import pytest

from tools.android import check_apk, contrast

BADGING = """package: name='dev.toolkit.trainer' versionCode='1'
minSdkVersion:'28'
targetSdkVersion:'36'
uses-permission: name='android.permission.FOREGROUND_SERVICE'
uses-permission: name='android.permission.FOREGROUND_SERVICE_DATA_SYNC'
uses-permission: name='android.permission.FOREGROUND_SERVICE_SPECIAL_USE'
uses-permission: name='android.permission.POST_NOTIFICATIONS'
uses-permission: name='android.permission.RECEIVE_BOOT_COMPLETED'
uses-permission: name='android.permission.REQUEST_IGNORE_BATTERY_OPTIMIZATIONS'
uses-permission: name='android.permission.WAKE_LOCK'
"""
TREE = """E: manifest (line=2)
    E: application (line=20)
      E: activity (line=30)
        A: http://schemas.android.com/apk/res/android:name(0x01010003)=".ui.MainActivity" (Raw: "")
        A: http://schemas.android.com/apk/res/android:exported(0x01010010)=true
          E: intent-filter (line=33)
            E: action (line=34)
              A: http://schemas.android.com/apk/res/android:name(0x01010003)="a.MAIN" (Raw: "")
      E: activity (line=40)
        A: http://schemas.android.com/apk/res/android:name(0x01010003)=".ui.TextActivity" (Raw: "")
        A: http://schemas.android.com/apk/res/android:exported(0x01010010)=true
      E: activity (line=44)
        A: http://schemas.android.com/apk/res/android:name(0x01010003)=".ui.ImportActivity"
        A: http://schemas.android.com/apk/res/android:exported(0x01010010)=true
      E: service (line=50)
        A: http://schemas.android.com/apk/res/android:name(0x01010003)=".service.AutomationService"
        A: http://schemas.android.com/apk/res/android:permission(0x01010006)="PERMISSION" (Raw: "")
        A: http://schemas.android.com/apk/res/android:exported(0x01010010)=true
      E: receiver (line=60)
        A: http://schemas.android.com/apk/res/android:name(0x01010003)=".service.RestartReceiver"
        A: http://schemas.android.com/apk/res/android:exported(0x01010010)=EXPORTED
"""


def components(permission="android.permission.DUMP", exported="false"):
    tree = TREE.replace("PERMISSION", permission).replace("EXPORTED", exported)
    return check_apk.check_components(check_apk.components(tree))


def test_the_manifest_as_it_should_be():
    assert check_apk.check_badging(BADGING) == []
    assert components() == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("uses-permission: name='android.permission.INTERNET'\n", "permissions differ"),
        ("uses-permission: name='android.permission.READ_EXTERNAL_STORAGE'\n", "READ_EXTERNAL"),
    ],
)
def test_a_permission_too_many(line, words):
    [problem] = check_apk.check_badging(BADGING + line)
    assert words in problem


def test_a_guard_that_apps_can_have_and_one_more_open_component():
    assert "AutomationService" in components(permission="android.permission.INTERNET")[0]
    assert "RestartReceiver" in components(exported="true")[0]


def test_other_versions_of_android():
    assert check_apk.check_badging(BADGING.replace("'28'", "'21'"))
    assert check_apk.check_badging(BADGING.replace("'36'", "'35'"))


def test_contrast_as_wcag_defines_it():
    assert contrast.contrast("#000000", "#FFFFFF") == pytest.approx(21)
    assert contrast.contrast("#777777", "#FFFFFF") == pytest.approx(4.48, abs=0.01)
    # The middle grey of CIE L* 50, and what stands between two tones of one palette.
    assert contrast.luminance("@android:color/system_accent1_500") == pytest.approx(0.184, abs=1e-3)
    light, dark = (f"@android:color/system_neutral1_{n}" for n in (10, 900))
    assert contrast.contrast(light, dark) > 15
    with pytest.raises(ValueError, match="not opaque"):
        contrast.luminance("#80FFFFFF")


def test_every_colour_of_the_app_is_strong_enough():
    assert contrast.main() == 0
