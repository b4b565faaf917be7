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
        added.split(whole, { begin, end -> encodePart(whole.substring(begin, end), begin == 0, tokens) }, tokens::add)
        if (special) template.after.forEach(tokens::add)
        return tokens.toArray()
    }

    private fun encodePart(text: String, first: Boolean, tokens: IntList) {
        val part = normalizer(text)
        addedNormalized.split(
            part, { begin, end -> encodePlain(part.substring(begin, end), first && begin == 0, tokens) }, tokens::add,
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
