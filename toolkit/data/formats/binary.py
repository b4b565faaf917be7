"""Files that are no UTF-8 text at all, told by their first bytes."""

from toolkit.data.formats.sniffing import Sample

CONVERT = "Convert it to UTF-8 text or JSON Lines first"
_MAGIC = (
    (b"\x1f\x8b", "a gzip file (unpack it with gunzip)"),
    (b"BZh", "a bzip2 file (unpack it with bunzip2)"),
    (b"\xfd7zXZ\x00", "an xz file (unpack it with unxz)"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file (unpack it with unzstd)"),
    (b"PK\x03\x04", "a ZIP archive or an office document, which is one (unpack or export it)"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive (unpack it)"),
    (b"Rar!", "a RAR archive (unpack it)"),
    (b"%PDF-", "a PDF document (pdftotext makes text of it)"),
    (b"ARROW1", "an Arrow file (datasets.Dataset.from_file(...).to_json(...))"),
    (b"ORC", "an ORC table (pandas.read_orc(...).to_json(..., orient='records', lines=True))"),
    (b"SQLite format 3\x00", "an SQLite database (export the text with sqlite3 -json)"),
    (b"\xd0\xcf\x11\xe0", "an old office document (save it as text)"),
    (b"GGUF", "a GGUF model (it goes to `toolkit export`)"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
    (b"\xff\xfe", "UTF-16 text (iconv -f UTF-16 -t UTF-8 makes UTF-8 of it)"),
    (b"\xfe\xff", "UTF-16 text (iconv -f UTF-16 -t UTF-8 makes UTF-8 of it)"),
)


def recognize(sample: Sample) -> str:
    """Return what the first bytes say."""
    if sample.data[257:262] == b"ustar":
        return "a tar archive (unpack it)"
    return next((what for magic, what in _MAGIC if sample.data.startswith(magic)), "")
