package dev.toolkit.trainer.tokenizer

/**
 * A BPE tokenizer, byte-level or as SentencePiece has them, equal to the `tokenizers` library on the same
 * tokenizer.json: see [TokenizerFile]. One thread at a time.
 */
class Tokenizer internal constructor(
    added: List<AddedToken>,
    private val normalizer: TextStep,
    private val preTokenizer: PreTokenizer,
    private val template: Template,
    private val pairs: BytePairs,
) {
    private val added = AddedTokens(added.filter { !it.normalized })
    private val addedNormalized = AddedTokens(
        added.filter { it.normalized }.map { it.copy(content = normalizer(it.content)) },
    )

    /** Tokens of a text, if [special] with those that the model wants before and after it. */
    fun encode(text: String, special: Boolean = true): IntArray {
        val tokens = IntList()
        if (special) template.before.forEach(tokens::add)
        val whole = withoutHalfPairs(text)
        added.split(whole, { begin, end -> encodePart(whole.substring(begin, end), begin == 0, tokens) }, { id, _, _ -> tokens.add(id) })
        if (special) template.after.forEach(tokens::add)
        return tokens.toArray()
    }

    /**
     * Tokens of a text, without those around it, and the characters of it that each is of: an added token those that it was found
     * as, another one those since the token before it.
     *
     * @param size bytes of a token's text, in UTF-8
     * @throws UnknownComponent there is no telling
     */
    internal fun locate(text: String, size: (Int) -> Int): Located {
        val whole = withoutHalfPairs(text)
        val found = Located()
        added.split(
            whole, { begin, end -> locatePart(whole.substring(begin, end), begin, begin == 0, size, found) }, found::add,
        )
        return found
    }

    private fun locatePart(text: String, offset: Int, first: Boolean, size: (Int) -> Int, found: Located) {
        val part = normalizer(text)
        val back = Alignment(text, part, normalizer)
        addedNormalized.split(
            part,
            { begin, end ->
                val plain = part.substring(begin, end)
                val prefixed = preTokenizer.prefix(plain, first && begin == 0)
                val tokens = IntList()
                val points = prefixed.codePoints().toArray()
                split(points, 0, points.size, 0, tokens)
                val ends = CharacterEnds(prefixed, prefixed.length - plain.length)
                for (i in 0 until tokens.size) found.add(tokens[i], found.end ?: offset, offset + back.of(begin + ends.after(size(tokens[i]))))
                ends.check()
            },
            { id, begin, end -> found.add(id, offset + back.of(begin), offset + back.of(end)) },
        )
    }

    private fun encodePart(text: String, first: Boolean, tokens: IntList) {
        val part = normalizer(text)
        addedNormalized.split(
            part, { begin, end -> encodePlain(part.substring(begin, end), first && begin == 0, tokens) }, { id, _, _ -> tokens.add(id) },
        )
    }

    private fun encodePlain(text: String, first: Boolean, tokens: IntList) {
        val points = preTokenizer.prefix(text, first).codePoints().toArray()
        split(points, 0, points.size, 0, tokens)
    }

    private fun split(points: IntArray, begin: Int, end: Int, level: Int, tokens: IntList) {
        if (begin == end) return
        if (level == preTokenizer.splitters.size) {
            pairs.encode(points, begin, end, tokens)
        } else {
            preTokenizer.splitters[level].split(points, begin, end) { from, to -> split(points, from, to, level + 1, tokens) }
        }
    }

    /** Half a surrogate pair is no character; it becomes what broken UTF-8 becomes. */
    private fun withoutHalfPairs(text: String): String {
        if (text.none { it.isSurrogate() }) return text
        val points = text.codePoints().toArray()
        for (i in points.indices) if (points[i] in 0xd800..0xdfff) points[i] = REPLACEMENT
        return String(points, 0, points.size)
    }

    private companion object {
        const val REPLACEMENT = 0xfffd
    }
}

/** Changes a text, or a part of one between added tokens. */
internal typealias TextStep = (String) -> String

/** What comes first, given whether the part begins the text, then what cuts it. */
internal class PreTokenizer(val prefix: (String, Boolean) -> String, val splitters: List<Splitter>)

/** Tokens before and after a text, for example Llama's beginning of text. */
internal class Template(val before: List<Int>, val after: List<Int>)
