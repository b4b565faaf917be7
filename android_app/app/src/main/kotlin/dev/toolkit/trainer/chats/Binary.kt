package dev.toolkit.trainer.chats

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words

/** Files that are no UTF-8 text at all, told by their first bytes: toolkit/data/formats/binary.py, and by a NUL. */
object Binary {
    /** What they begin with, for each kind of R.array.binary_kinds but the last, which is any with a NUL in it. */
    private val BEGINNINGS = listOf(
        listOf("PK\u0003\u0004"), listOf("\u001f\u008b", "BZh", "\u00fd7zXZ\u0000", "\u0028\u00b5\u002f\u00fd", "7z\u00bc\u00af\u0027\u001c", "Rar!"),
        listOf("%PDF-"), listOf("\u00d0\u00cf\u0011\u00e0"), listOf("\u0089PNG", "\u00ff\u00d8\u00ff", "GIF8"),
        listOf("ARROW1", "ORC", "PAR1"), listOf("SQLite\u0020format 3\u0000"), listOf("GGUF"), listOf("\u00ff\u00fe", "\u00fe\u00ff"),
    )
    private const val HEAD = 65_536
    private const val TAR = 257

    /** Its kind in words, or null for what may be text. */
    fun kind(bytes: ByteArray): String? {
        val head = String(bytes, 0, minOf(bytes.size, HEAD), Charsets.ISO_8859_1)
        // A text may begin with letters alone, as "ORC" has them.
        val certain = head.startsWith("%PDF-") || head.any { it < '\t' }
        val known = BEGINNINGS.indexOfFirst { kind -> kind.any { begin -> head.startsWith(begin) && (certain || begin.any { it !in ' '..'~' }) } }
        val index = when {
            known >= 0 -> known
            head.startsWith("ustar", TAR) -> 1
            '\u0000' in head -> BEGINNINGS.size
            else -> return null
        }
        return Words.list(R.array.binary_kinds)[index]
    }
}
