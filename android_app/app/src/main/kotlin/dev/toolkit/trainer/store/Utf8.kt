package dev.toolkit.trainer.store

/**
 * UTF-8 that may be broken. Every longest beginning of a character that does not go on becomes one U+FFFD, as Python's
 * `errors="replace"` has it (Unicode 15, table 3-8); the decoders of Java and of Android each do it in their own way.
 */
object Utf8 {
    private const val REPLACEMENT = '\ufffd'
    private const val BYTE_ORDER_MARK = "\ufeff"

    /** How many bytes at the end are the beginning of a character that may go on. */
    fun unfinished(bytes: ByteArray): Int {
        for (count in 1..minOf(3, bytes.size)) {
            val at = bytes.size - count
            val lead = bytes[at].toInt() and 0xff
            if (lead in 0x80..0xbf) continue
            val whole = (1 until count).all { bytes[at + it].toInt() and 0xff in if (it == 1) second(lead) else 0x80..0xbf }
            return if (count < sequenceLength(lead) && whole) count else 0
        }
        return 0
    }

    /** The text, without a byte order mark unless [withMark]. */
    fun decode(bytes: ByteArray, withMark: Boolean = false): String {
        val text = StringBuilder(bytes.size)
        var at = 0
        while (at < bytes.size) {
            val lead = bytes[at].toInt() and 0xff
            if (lead < 0x80) {
                text.append(lead.toChar())
                at++
                continue
            }
            val length = sequenceLength(lead)
            var point = if (length == 0) 0 else lead and (0x7f shr length)
            var seen = 1
            while (seen < length && at + seen < bytes.size) {
                val next = bytes[at + seen].toInt() and 0xff
                if (next !in (if (seen == 1) second(lead) else 0x80..0xbf)) break
                point = point shl 6 or (next and 0x3f)
                seen++
            }
            if (length > 0 && seen == length) text.appendCodePoint(point) else text.append(REPLACEMENT)
            at += seen
        }
        return if (withMark) text.toString() else text.toString().removePrefix(BYTE_ORDER_MARK)
    }

    private fun sequenceLength(lead: Int): Int = when (lead) {
        in 0xc2..0xdf -> 2
        in 0xe0..0xef -> 3
        in 0xf0..0xf4 -> 4
        else -> 0
    }

    /** What may follow: neither overlong forms nor surrogates nor beyond U+10FFFF. */
    private fun second(lead: Int): IntRange = when (lead) {
        0xe0 -> 0xa0..0xbf
        0xed -> 0x80..0x9f
        0xf0 -> 0x90..0xbf
        0xf4 -> 0x80..0x8f
        else -> 0x80..0xbf
    }
}
