"""Checks the app's colours against WCAG 2.1 AA: 4.5:1 for text, 3:1 for what is known by shape.

Colours of the wallpaper (values-v31) are @android:color/system_NAME_N: N says how light they are,
CIE L* = 100 - N / 10, whatever their hue.

python tools/android/contrast.py
"""

import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

RES = Path(__file__).parents[2] / "android_app/app/src/main/res"
TEXT, SHAPE = 4.5, 3.0
PAIRS = [
    ("text", "background", TEXT),
    ("text", "surface", TEXT),
    ("text", "surface_quiet", TEXT),
    ("text", "warning_quiet", TEXT),
    ("text_quiet", "background", TEXT),
    ("text_quiet", "surface", TEXT),
    ("text_quiet", "surface_quiet", TEXT),
    ("accent", "background", TEXT),
    ("accent", "surface", SHAPE),
    ("on_accent", "accent", TEXT),
    ("on_accent_quiet", "accent_quiet", TEXT),
    ("warning", "warning_quiet", TEXT),
    ("error", "background", TEXT),
    ("error", "surface", TEXT),
    ("field_outline", "background", SHAPE),
    ("field_outline", "surface", SHAPE),
    ("chart_loss", "surface", SHAPE),
    ("chart_memory", "surface", TEXT),
    ("chart_budget", "surface", TEXT),
]
"""Foreground, background, and the ratio they need."""


def main() -> int:
    """Print every pair in both themes; 1 if one is too weak."""
    failed = 0
    for theme in ("values", "values-night", "values-v31", "values-night-v31"):
        fixed = read_colors(RES / theme.removesuffix("-v31") / "colors.xml")
        colors = fixed | read_colors(RES / theme / "colors.xml")
        for front, back, needed in PAIRS:
            ratio = contrast(colors[front], colors[back])
            verdict = "ok" if ratio >= needed else "TOO WEAK"
            failed += ratio < needed
            print(f"{theme:16} {front:16} on {back:14} {ratio:5.2f} (needs {needed}) {verdict}")
    return int(failed > 0)


def read_colors(path: Path) -> dict[str, str]:
    """Return the colours of a resource file by name."""
    return {item.attrib["name"]: item.text or "" for item in ElementTree.parse(path).getroot()}


def contrast(front: str, back: str) -> float:
    """WCAG's contrast ratio of two opaque colours, 1 to 21."""
    lighter, darker = sorted((luminance(front), luminance(back)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    """WCAG's relative luminance of "#RRGGBB" or of a colour of the wallpaper."""
    if tone := re.fullmatch(r"@android:color/system_\w+_(\d+)", color):
        lightness = 100 - int(tone[1]) / 10
        low = lightness / 903.3
        return low if lightness <= 8 else float(((lightness + 16) / 116) ** 3)
    if len(color) != 7:
        raise ValueError(f"{color} is not opaque")
    channels = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


if __name__ == "__main__":
    sys.exit(main())
