package dev.toolkit.trainer.tokenizer

import java.util.Arrays

/** What a piece of text begins as, before any of it is joined. Text comes as code points. */
internal interface Symbols {
    fun add(text: IntArray, begin: Int, end: Int, tokens: IntList)

    /** The piece as the vocabulary would write it. */
    fun written(text: IntArray, begin: Int, end: Int): String
}

/**
 * What stands for text that the vocabulary lacks: nothing, or one token, for a run of it or for each character. As in
 * `tokenizers`, the token waits until known text, or if it is for one character the next unknown one, comes.
 */
internal class Unknown(private val token: Int?, private val fused: Boolean) {
    /** Called for an unknown character, [waiting] if one came before; returns that one is waiting now. */
    fun another(waiting: Boolean, tokens: IntList): Boolean {
        if (!fused) flush(waiting, tokens)
        return true
    }

    /** Called before known text and at the end; returns that none is waiting any more. */
    fun flush(waiting: Boolean, tokens: IntList): Boolean {
        if (waiting && token != null) tokens.add(token)
        return false
    }
}

/** `ByteLevel`: the bytes of UTF-8. */
internal class ByteSymbols(vocabulary: Map<String, Int>, private val unknown: Unknown) : Symbols {
    private val ids = IntArray(256) { vocabulary[ByteCharacters.of(it)] ?: -1 }

    override fun add(text: IntArray, begin: Int, end: Int, tokens: IntList) {
        var waiting = false
        for (i in begin until end) {
            eachByte(text[i]) { byte ->
                if (ids[byte] < 0) {
                    waiting = unknown.another(waiting, tokens)
                } else {
                    waiting = unknown.flush(waiting, tokens)
                    tokens.add(ids[byte])
                }
            }
        }
        unknown.flush(waiting, tokens)
    }

    override fun written(text: IntArray, begin: Int, end: Int): String = buildString {
        for (i in begin until end) eachByte(text[i]) { append(ByteCharacters.of(it)) }
    }
}

/** SentencePiece's way: characters, and where the vocabulary lacks one, its bytes if there is a token for each. */
internal class CharacterSymbols(
    vocabulary: Map<String, Int>, byteFallback: Boolean, private val unknown: Unknown,
) : Symbols {
    private val characters: IntArray
    private val ids: IntArray
    private val bytes: IntArray? =
        if (byteFallback) IntArray(256) { vocabulary["<0x%02X>".format(it)] ?: -1 } else null

    init {
        val single = vocabulary.filterKeys { it.isNotEmpty() && it.offsetByCodePoints(0, 1) == it.length }
            .map { (text, id) -> text.codePointAt(0) to id }.sortedBy { it.first }
        characters = IntArray(single.size) { single[it].first }
        ids = IntArray(single.size) { single[it].second }
    }

    fun knows(character: Int): Boolean = Arrays.binarySearch(characters, character) >= 0

    override fun add(text: IntArray, begin: Int, end: Int, tokens: IntList) {
        var waiting = false
        for (i in begin until end) {
            val at = Arrays.binarySearch(characters, text[i])
            if (at >= 0) {
                waiting = unknown.flush(waiting, tokens)
                tokens.add(ids[at])
            } else if (!addBytes(text[i], tokens)) {
                waiting = unknown.another(waiting, tokens)
            }
        }
        unknown.flush(waiting, tokens)
    }

    /** Bytes do not end a run of unknown text: `tokenizers` adds its token after them. */
    private fun addBytes(character: Int, tokens: IntList): Boolean {
        if (bytes == null) return false
        var all = true
        eachByte(character) { if (bytes[it] < 0) all = false }
        if (all) eachByte(character) { tokens.add(bytes[it]) }
        return all
    }

    override fun written(text: IntArray, begin: Int, end: Int): String = String(text, begin, end - begin)
}

/**
 * Where a piece can be cut without changing its tokens: between two characters that stand together in no token.
 * SentencePiece takes a whole text for one piece; with this, it is joined word by word, and words are remembered.
 */
internal class Seams(vocabulary: Set<String>, private val symbols: CharacterSymbols) {
    private val pairs: LongArray

    init {
        val found = LongList()
        for (token in vocabulary) {
            var left = -1
            for (character in token.codePoints()) {
                if (left >= 0) found.add(pair(left, character))
                left = character
            }
        }
        pairs = found.sortedDistinct()
    }

    /** Characters that the vocabulary lacks are left together: they may become one unknown token. */
    fun between(left: Int, right: Int): Boolean =
        Arrays.binarySearch(pairs, pair(left, right)) < 0 && symbols.knows(left) && symbols.knows(right)

    private fun pair(left: Int, right: Int): Long = left.toLong() shl 32 or right.toLong()
}

/** Calls [byte] for every byte of a character in UTF-8. */
internal inline fun eachByte(character: Int, byte: (Int) -> Unit) {
    when {
        character < 0x80 -> byte(character)
        character < 0x800 -> {
            byte(0xc0 or (character shr 6))
            byte(0x80 or (character and 0x3f))
        }
        character < 0x10000 -> {
            byte(0xe0 or (character shr 12))
            byte(0x80 or (character shr 6 and 0x3f))
            byte(0x80 or (character and 0x3f))
        }
        else -> {
            byte(0xf0 or (character shr 18))
            byte(0x80 or (character shr 12 and 0x3f))
            byte(0x80 or (character shr 6 and 0x3f))
            byte(0x80 or (character and 0x3f))
        }
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

    private val bytes = HashMap<Char, Byte>().apply { characters.forEachIndexed { byte, character -> put(character, byte.toByte()) } }

    /** The bytes that a text stands for, or null if one of its characters stands for none. */
    fun bytes(text: String): ByteArray? {
        val found = ByteArray(text.length)
        for (i in text.indices) found[i] = bytes[text[i]] ?: return null
        return found
    }
}
