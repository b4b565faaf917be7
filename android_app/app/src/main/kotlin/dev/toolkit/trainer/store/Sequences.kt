package dev.toolkit.trainer.store

import java.util.TreeMap

/** Training sequences from token lists, as toolkit/data/samples.py makes them: same tokens in, same rows out. */
class Sequences(private val length: Int, private val padding: Int) {
    /** The inputs of a document or a part of one; the label of each is the token that follows. */
    private class Piece(val tokens: IntArray, val begin: Int, val size: Int, val learned: BooleanArray? = null)

    private val pieces = ArrayList<Piece>()
    var tokens = 0L
        private set

    /** Adds a document; a long one is cut into parts that share one token, so that each is learned once. */
    fun add(document: IntArray) {
        var begin = 0
        while (begin < document.size - 1) {
            val size = minOf(length, document.size - 1 - begin)
            pieces += Piece(document, begin, size)
            tokens += size
            begin += length
        }
    }

    /** Adds a document that is not longer than a row, up to the last of the tokens that are [learned]; false if there is none. */
    fun add(document: IntArray, learned: BooleanArray): Boolean {
        val size = (1 until document.size).lastOrNull { learned[it] } ?: return false
        pieces += Piece(document, 0, size, learned)
        tokens += size
        return true
    }

    /** Packs the pieces into rows, best fit, longest first, and lays them out: tokens, labels, positions, start. */
    fun rows(): List<Array<IntArray>> = pack().map(::layOut)

    private fun pack(): List<List<Int>> {
        val rows = ArrayList<ArrayList<Int>>()
        val waiting = TreeMap<Int, ArrayList<Int>>() // free room to rows, the latest last
        for (index in pieces.indices.sortedByDescending { pieces[it].size }) {
            val size = pieces[index].size
            val fitting = waiting.ceilingEntry(size)
            val row: Int
            var room = length
            if (fitting == null) {
                row = rows.size
                rows += ArrayList<Int>()
            } else {
                room = fitting.key
                row = fitting.value.removeAt(fitting.value.size - 1)
                if (fitting.value.isEmpty()) waiting.remove(room)
            }
            rows[row].add(index)
            waiting.getOrPut(room - size) { ArrayList() }.add(row)
        }
        rows.forEach { it.sort() }
        return rows.sortedBy { it[0] }
    }

    private fun layOut(members: List<Int>): Array<IntArray> {
        val tokens = IntArray(length) { padding }
        val labels = IntArray(length) { IGNORED }
        val start = IntArray(length)
        var at = 0
        for (index in members) {
            val piece = pieces[index]
            for (i in 0 until piece.size) {
                tokens[at + i] = piece.tokens[piece.begin + i]
                if (piece.learned?.get(i + 1) != false) labels[at + i] = piece.tokens[piece.begin + i + 1]
            }
            for (i in at until length) start[i] = at // To the end: padding belongs to the last piece.
            at += piece.size
        }
        // Over padding that of the last token: some models turn by other frequencies beyond a position.
        val positions = IntArray(length) { minOf(it, at - 1) - start[it] }
        return arrayOf(tokens, labels, positions, start)
    }

    private companion object {
        const val IGNORED = -100
    }
}
