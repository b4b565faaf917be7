package dev.toolkit.trainer.tokenizer

/** Cuts a piece of text, given as code points, into smaller pieces. */
internal fun interface Splitter {
    /** Calls [piece] for every part of [begin, end) in order; what is in none of them is left out. */
    fun split(text: IntArray, begin: Int, end: Int, piece: (Int, Int) -> Unit)
}

/** `Digits`: digits on their own, each alone when [individual]. */
internal class DigitSplitter(private val individual: Boolean) : Splitter {
    override fun split(text: IntArray, begin: Int, end: Int, piece: (Int, Int) -> Unit) {
        var at = begin
        while (at < end) {
            val digit = Characters.isDigit(text[at])
            var next = at + 1
            if (!digit || !individual) while (next < end && Characters.isDigit(text[next]) == digit) next++
            piece(at, next)
            at = next
        }
    }
}

/** What becomes of a delimiter, named as tokenizer.json names it. */
internal enum class Delimiter { Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous }

/** `Split` by a text that is no pattern. */
internal class LiteralSplitter(private val literal: IntArray, private val delimiter: Delimiter) : Splitter {
    override fun split(text: IntArray, begin: Int, end: Int, piece: (Int, Int) -> Unit) {
        when (delimiter) {
            Delimiter.MergedWithPrevious -> mergedWithPrevious(text, begin, end, piece)
            Delimiter.MergedWithNext -> mergedWithNext(text, begin, end, piece)
            Delimiter.Contiguous -> contiguous(text, begin, end, piece)
            else -> parts(text, begin, end) { from, to, match ->
                if (!match || delimiter == Delimiter.Isolated) piece(from, to)
            }
        }
    }

    /** A delimiter right behind another stands alone. */
    private fun mergedWithPrevious(text: IntArray, begin: Int, end: Int, piece: (Int, Int) -> Unit) {
        var waiting = begin
        var previous = false
        parts(text, begin, end) { from, to, match ->
            if (match && !previous || from == begin) {
                if (match) {
                    piece(waiting, to)
                    waiting = to
                }
            } else {
                if (waiting < from) piece(waiting, from)
                waiting = from
            }
            previous = match
        }
        if (waiting < end) piece(waiting, end)
    }

    /** A delimiter right before another stands alone. */
    private fun mergedWithNext(text: IntArray, begin: Int, end: Int, piece: (Int, Int) -> Unit) {
        var waiting = -1
        parts(text, begin, end) { from, to, match ->
            if (waiting >= 0 && match) piece(waiting, from)
            if (match) {
                waiting = from
            } else {
                piece(if (waiting >= 0) waiting else from, to)
                waiting = -1
            }
        }
        if (waiting >= 0) piece(waiting, end)
    }

    private fun contiguous(text: IntArray, begin: Int, end: Int, piece: (Int, Int) -> Unit) {
        var waiting = begin
        var previous = false
        parts(text, begin, end) { from, _, match ->
            if (match != previous && waiting < from) {
                piece(waiting, from)
                waiting = from
            }
            previous = match
        }
        if (waiting < end) piece(waiting, end)
    }

    private inline fun parts(text: IntArray, begin: Int, end: Int, part: (Int, Int, Boolean) -> Unit) {
        var from = begin
        var at = begin
        while (at <= end - literal.size) {
            if (matches(text, at)) {
                if (from < at) part(from, at, false)
                part(at, at + literal.size, true)
                at += literal.size
                from = at
            } else {
                at++
            }
        }
        if (from < end) part(from, end, false)
    }

    private fun matches(text: IntArray, at: Int): Boolean = literal.indices.all { text[at + it] == literal[it] }
}
