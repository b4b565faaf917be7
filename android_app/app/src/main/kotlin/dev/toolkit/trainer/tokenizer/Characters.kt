package dev.toolkit.trainer.tokenizer

import java.util.BitSet

/** Character classes of the patterns that tokenizers split by; see [UnicodeRanges] for why they are our own. */
internal object Characters {
    private val letters = decode(UnicodeRanges.LETTERS)
    private val numbers = decode(UnicodeRanges.NUMBERS)
    private val spaces = decode(UnicodeRanges.SPACES)
    private val digits = decode(UnicodeRanges.DIGITS)
    private val capitals by lazy { decode(UnicodeRanges.CAPITALS) }
    private val smalls by lazy { decode(UnicodeRanges.SMALLS) }
    private val marks by lazy { decode(UnicodeRanges.MARKS) }

    fun isLetter(c: Int): Boolean = letters[c]

    fun isNumber(c: Int): Boolean = numbers[c]

    fun isSpace(c: Int): Boolean = spaces[c]

    /** What the pre-tokenizer `Digits` takes for one: not quite the same as a number of the patterns. */
    fun isDigit(c: Int): Boolean = digits[c]

    /** Neither space nor letter nor number. */
    fun isOther(c: Int): Boolean = !spaces[c] && !letters[c] && !numbers[c]

    /** `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`: also letters without case. */
    fun isUpper(c: Int): Boolean = letters[c] && !smalls[c] || marks[c]

    /** `[\p{Ll}\p{Lm}\p{Lo}\p{M}]` */
    fun isLower(c: Int): Boolean = letters[c] && !capitals[c] || marks[c]

    fun isLineEnd(c: Int): Boolean = c == '\r'.code || c == '\n'.code

    private fun decode(text: String): BitSet {
        val set = BitSet(0x110000)
        var at = 0
        val numbers = text.split(' ').map { it.toInt(36) }
        for (index in numbers.indices step 2) {
            val first = at + numbers[index]
            at = first + numbers[index + 1]
            set.set(first, at + 1)
        }
        return set
    }
}
