package dev.toolkit.trainer.tokenizer

/**
 * The patterns of byte-level tokenizers, as scanners instead of regular expressions: `java.util.regex` is a
 * different engine with a different Unicode on every Android release. Each alternative of a pattern is one
 * function that returns where its match ends, or -1.
 */
internal abstract class PatternSplitter : Splitter {
    override fun split(text: IntArray, begin: Int, end: Int, piece: (Int, Int) -> Unit) {
        var at = begin
        while (at < end) {
            val next = match(text, at, end)
            check(next > at) { "no alternative matches" }
            piece(at, next)
            at = next
        }
    }

    /** Where the match at [at] ends; every character is matched by some alternative. */
    protected abstract fun match(text: IntArray, at: Int, end: Int): Int

    /** `'s|'t|'re|'ve|'m|'ll|'d` */
    protected fun contraction(text: IntArray, at: Int, end: Int, anyCase: Boolean): Int {
        if (text[at] != '\''.code || at + 1 >= end) return -1
        val first = fold(text[at + 1], anyCase)
        if (first in ONE_LETTER) return at + 2
        if (at + 2 >= end) return -1
        val second = fold(text[at + 2], anyCase)
        val two = (first == 'r' || first == 'v') && second == 'e' || first == 'l' && second == 'l'
        return if (two) at + 3 else -1
    }

    private fun fold(c: Int, anyCase: Boolean): Char = when {
        c > 0xffff -> '\u0000'
        !anyCase -> c.toChar()
        c == LONG_S -> 's'
        c < 0x80 -> c.toChar().lowercaseChar()
        else -> c.toChar()
    }

    protected inline fun run(text: IntArray, at: Int, end: Int, most: Int = Int.MAX_VALUE, member: (Int) -> Boolean): Int {
        var next = at
        while (next < end && next - at < most && member(text[next])) next++
        return next
    }

    /** ` ?X+` */
    protected inline fun afterSpace(text: IntArray, at: Int, end: Int, member: (Int) -> Boolean): Int {
        val first = if (text[at] == ' '.code) at + 1 else at
        val next = run(text, first, end, member = member)
        return if (next > first) next else -1
    }

    /** `\s+(?!\S)|\s+`: leaves the last space to what follows it. */
    protected fun spaces(text: IntArray, at: Int, end: Int): Int {
        val next = run(text, at, end) { Characters.isSpace(it) }
        return if (next < end && next - at > 1) next - 1 else next
    }

    /** `\s*[\r\n]+`: to the last line end of a run of spaces. */
    protected fun lines(text: IntArray, at: Int, end: Int): Int {
        var next = run(text, at, end) { Characters.isSpace(it) }
        while (next > at && !Characters.isLineEnd(text[next - 1])) next--
        return if (next > at) next else -1
    }

    /** `[^\r\n\p{L}\p{N}]` */
    protected fun mayPrecedeWord(c: Int): Boolean =
        !Characters.isLetter(c) && !Characters.isNumber(c) && !Characters.isLineEnd(c)

    private companion object {
        const val ONE_LETTER = "stmd"
        const val LONG_S = 0x17f
    }
}

/** GPT-2, and with digits split before it SmolLM2 and Granite 3: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+` */
internal object Gpt2Splitter : PatternSplitter() {
    override fun match(text: IntArray, at: Int, end: Int): Int {
        val next = contraction(text, at, end, anyCase = false)
        if (next >= 0) return next
        afterSpace(text, at, end) { Characters.isLetter(it) }.let { if (it >= 0) return it }
        afterSpace(text, at, end) { Characters.isNumber(it) }.let { if (it >= 0) return it }
        afterSpace(text, at, end) { Characters.isOther(it) }.let { if (it >= 0) return it }
        return spaces(text, at, end)
    }
}

/**
 * Qwen2 and Qwen3 with [digits] = 1, Llama 3, SmolLM3 and OLMo 2 with 3:
 * `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
 */
internal class Cl100kSplitter(private val digits: Int) : PatternSplitter() {
    override fun match(text: IntArray, at: Int, end: Int): Int {
        contraction(text, at, end, anyCase = true).let { if (it >= 0) return it }
        word(text, at, end).let { if (it >= 0) return it }
        run(text, at, end, digits) { Characters.isNumber(it) }.let { if (it > at) return it }
        afterSpace(text, at, end) { Characters.isOther(it) }.let { if (it >= 0) return run(text, it, end) { c -> Characters.isLineEnd(c) } }
        lines(text, at, end).let { if (it >= 0) return it }
        return spaces(text, at, end)
    }

    /** `[^\r\n\p{L}\p{N}]?\p{L}+` */
    private fun word(text: IntArray, at: Int, end: Int): Int {
        val first = if (mayPrecedeWord(text[at])) at + 1 else at
        val next = run(text, first, end) { Characters.isLetter(it) }
        return if (next > first) next else -1
    }
}

/**
 * GPT-4o and Phi-4-mini, for which a word begins where capitals do. With U = `\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}`,
 * L = `\p{Ll}\p{Lm}\p{Lo}\p{M}` and C = `(?i:'s|'t|'re|'ve|'m|'ll|'d)?`:
 * `[^\r\n\p{L}\p{N}]?[U]*[L]+C|[^\r\n\p{L}\p{N}]?[U]+[L]*C|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
 */
internal object O200kSplitter : PatternSplitter() {
    override fun match(text: IntArray, at: Int, end: Int): Int {
        word(text, at, end, ::lower).let { if (it >= 0) return withContraction(text, it, end) }
        word(text, at, end, ::upper).let { if (it >= 0) return withContraction(text, it, end) }
        run(text, at, end, most = 3) { Characters.isNumber(it) }.let { if (it > at) return it }
        afterSpace(text, at, end) { Characters.isOther(it) }.let {
            if (it >= 0) return run(text, it, end) { c -> Characters.isLineEnd(c) || c == '/'.code }
        }
        lines(text, at, end).let { if (it >= 0) return it }
        return spaces(text, at, end)
    }

    /** With the character that may precede a word, or else without it. */
    private inline fun word(text: IntArray, at: Int, end: Int, rest: (IntArray, Int, Int) -> Int): Int {
        val after = if (mayPrecedeWord(text[at])) rest(text, at + 1, end) else -1
        return if (after >= 0) after else rest(text, at, end)
    }

    /** `[U]*[L]+`: where no L follows the Us, the last U that is an L too is given back. */
    private fun lower(text: IntArray, at: Int, end: Int): Int {
        val capitals = run(text, at, end) { Characters.isUpper(it) }
        val next = run(text, capitals, end) { Characters.isLower(it) }
        if (next > capitals) return next
        for (i in capitals - 1 downTo at) if (Characters.isLower(text[i])) return i + 1
        return -1
    }

    /** `[U]+[L]*` */
    private fun upper(text: IntArray, at: Int, end: Int): Int {
        val capitals = run(text, at, end) { Characters.isUpper(it) }
        return if (capitals > at) run(text, capitals, end) { Characters.isLower(it) } else -1
    }

    private fun withContraction(text: IntArray, at: Int, end: Int): Int {
        if (at >= end) return at
        return contraction(text, at, end, anyCase = true).let { if (it >= 0) it else at }
    }
}
