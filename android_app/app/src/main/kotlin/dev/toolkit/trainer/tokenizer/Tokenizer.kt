package dev.toolkit.trainer.tokenizer

import java.io.ByteArrayOutputStream
import java.text.Normalizer

/** A token that is found in the text as it is, before anything is split. */
internal data class AddedToken(val id: Int, val content: String)

/**
 * A byte-level BPE tokenizer, equal to the `tokenizers` library on the same tokenizer.json: see [TokenizerFile].
 * One thread at a time.
 */
class Tokenizer internal constructor(
    private val normalize: Boolean,
    private val splitters: List<Splitter>,
    private val prefixSpace: Boolean,
    private val wholeWords: Map<String, Int>?,
    added: List<AddedToken>,
    private val before: IntArray,
    private val after: IntArray,
    private val pairs: BytePairs,
    val vocabularySize: Int,
) {
    private val addedByFirst: Map<Char, List<AddedToken>> =
        added.filter { it.content.isNotEmpty() }.groupBy { it.content[0] }
            .mapValues { (_, tokens) -> tokens.sortedByDescending { it.content.length } }

    /** Tokens of a text, with those that the model wants before and after it. */
    fun encode(text: String): IntArray {
        val tokens = IntList()
        before.forEach(tokens::add)
        var begin = 0
        var at = 0
        while (at < text.length) {
            val found = addedByFirst[text[at]]?.firstOrNull { text.startsWith(it.content, at) }
            if (found == null) {
                at++
                continue
            }
            encodePlain(text, begin, at, tokens)
            tokens.add(found.id)
            at += found.content.length
            begin = at
        }
        encodePlain(text, begin, text.length, tokens)
        after.forEach(tokens::add)
        return tokens.toArray()
    }

    private fun encodePlain(text: String, begin: Int, end: Int, tokens: IntList) {
        if (begin == end) return
        var part = text.substring(begin, end)
        if (normalize) part = Normalizer.normalize(part, Normalizer.Form.NFC)
        if (prefixSpace && !part.startsWith(" ")) part = " $part"
        val points = codePoints(part)
        split(points, 0, points.size, 0, tokens)
    }

    private fun split(points: IntArray, begin: Int, end: Int, level: Int, tokens: IntList) {
        if (level == splitters.size) {
            encodePiece(utf8(points, begin, end), tokens)
        } else {
            splitters[level].split(points, begin, end) { from, to -> split(points, from, to, level + 1, tokens) }
        }
    }

    private fun encodePiece(piece: ByteArray, tokens: IntList) {
        val whole = wholeWords?.get(ByteCharacters.encode(piece))
        if (whole != null) tokens.add(whole) else pairs.encode(piece, tokens)
    }

    /** Half a surrogate pair is no character; it becomes what broken UTF-8 becomes. */
    private fun codePoints(text: String): IntArray {
        val points = text.codePoints().toArray()
        for (i in points.indices) if (points[i] in 0xd800..0xdfff) points[i] = REPLACEMENT
        return points
    }

    private fun utf8(points: IntArray, begin: Int, end: Int): ByteArray {
        val bytes = ByteArrayOutputStream(2 * (end - begin))
        for (i in begin until end) {
            val c = points[i]
            when {
                c < 0x80 -> bytes.write(c)
                c < 0x800 -> {
                    bytes.write(0xc0 or (c shr 6))
                    bytes.write(0x80 or (c and 0x3f))
                }
                c < 0x10000 -> {
                    bytes.write(0xe0 or (c shr 12))
                    bytes.write(0x80 or (c shr 6 and 0x3f))
                    bytes.write(0x80 or (c and 0x3f))
                }
                else -> {
                    bytes.write(0xf0 or (c shr 18))
                    bytes.write(0x80 or (c shr 12 and 0x3f))
                    bytes.write(0x80 or (c shr 6 and 0x3f))
                    bytes.write(0x80 or (c and 0x3f))
                }
            }
        }
        return bytes.toByteArray()
    }

    private companion object {
        const val REPLACEMENT = 0xfffd
    }
}

/** GPT-2's way to write bytes as printable characters, in which vocabularies are stored. */
internal object ByteCharacters {
    private val characters: CharArray = CharArray(256)

    init {
        var extra = 256
        for (byte in 0..255) {
            val printable = byte in '!'.code..'~'.code || byte in 0xa1..0xac || byte in 0xae..0xff
            characters[byte] = if (printable) byte.toChar() else (extra++).toChar()
        }
    }

    fun of(byte: Int): String = characters[byte].toString()

    fun encode(bytes: ByteArray): String = String(CharArray(bytes.size) { characters[bytes[it].toInt() and 0xff] })
}
