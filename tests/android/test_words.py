"""Every sentence of the app is in its resources, and in every language."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "android_app/app/src/main"
LANGUAGES = ["de"]
DETAILS = {
    "Components.kt",
    "ModelReader.kt",
    "Patterns.kt",
    "UnicodeRanges.kt",
    "WhatsAppTexts.kt",
}
"""What a tokenizer has that is not known, in the tokenizers library's own words; tables."""
NOT_SHOWN = re.compile(
    r"(Log\.\w\(|require\(|check\(|UnknownComponent\(|unknown\(|[rR]eadable\(|@Deprecated\(|"
    r"IOException\(|JSONException\(|FileNotFoundException\(|newWakeLock|contains\(|get\w+\(|put\w+\(|tag)"
)
"""Before a text: it goes to a log or another program, or only developers can see it."""
WORDS = re.compile(r"[A-Za-z“]{2,}[,.:]? [“A-Za-z]{2,}")


def texts(language=""):
    """Return name -> what it has, of a language's files."""
    folder = f"values-{language}" if language else "values"
    files = sorted((SOURCE / "res" / folder).glob("strings*.xml"))
    return {
        item.attrib["name"]: [part.text or "" for part in (list(item) or [item])]
        for file in files
        for item in ElementTree.parse(file).getroot()
        if item.attrib.get("translatable") != "false"
    }


def places(words):
    return sorted(re.findall(r"%\d\$[\d.]*[a-z]", words))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_is_translated(language):
    own, other = texts(), texts(language)
    assert own.keys() == other.keys()
    for name, parts in own.items():
        assert len(parts) == len(other[name]), name
        for one, two in zip(parts, other[name], strict=True):
            assert places(one) == places(two), name
    same = {name for name in own if own[name] == other[name] and WORDS.search(own[name][0])}
    assert same <= {"app_name"}


def test_the_system_offers_the_languages():
    root = ElementTree.parse(SOURCE / "res/xml/locales.xml").getroot()
    found = {value for locale in root for value in locale.attrib.values()}
    assert found == {"en", *LANGUAGES}


def without_comments(source):
    return re.sub(
        r'("(?:[^"\\\n]|\\.)*")|//[^\n]*|/\*.*?\*/',
        lambda match: match[1] or "",
        source,
        flags=re.DOTALL,
    )


def sentences(source):
    """Yield every text of two words or more that somebody may get to see."""
    for line in without_comments(source).splitlines():
        for match in re.finditer(r'"((?:[^"\\]|\\.)*)"', line):
            if WORDS.search(match[1]) and not NOT_SHOWN.search(line[: match.start()]):
                yield match[1]


def test_no_sentence_is_left_in_the_code():
    found = {
        f"{path.name}: {text}"
        for path in SOURCE.rglob("*.kt")
        if path.name not in DETAILS
        for text in sentences(path.read_text())
    }
    assert found == set()


def test_a_sentence_in_the_code_is_found():
    assert list(sentences('throw AppException("There is no run here.") // "of this"')) == [
        "There is no run here."
    ]
    assert list(sentences('Log.w(TAG, "not started here")')) == []
