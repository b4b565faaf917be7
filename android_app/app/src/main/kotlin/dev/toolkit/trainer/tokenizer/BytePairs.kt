package dev.toolkit.trainer.tokenizer

import java.util.PriorityQueue

/**
 * Byte-pair encoding: joins the pair of lowest rank, the leftmost first, until none is left.
 *
 * @param byteIds token of each byte, -1 where the vocabulary has none
 * @param merges rank and result of each pair that can be joined
 */
internal class BytePairs(private val byteIds: IntArray, private val merges: Merges) {
    private val cache = object : LinkedHashMap<String, IntArray>(256, 0.75f, true) {
        override fun removeEldestEntry(eldest: Map.Entry<String, IntArray>) = size > CACHED_WORDS
    }

    /** Tokens of one piece of text, given as UTF-8. */
    fun encode(piece: ByteArray, tokens: IntList) {
        if (piece.size > LONGEST_CACHED) {
            join(piece).forEach(tokens::add)
            return
        }
        val key = String(piece, Charsets.ISO_8859_1)
        val known = cache[key] ?: join(piece).also { cache[key] = it }
        known.forEach(tokens::add)
    }

    private fun join(piece: ByteArray): IntArray {
        val ids = IntArray(piece.size)
        var count = 0
        for (byte in piece) {
            val id = byteIds[byte.toInt() and 0xff]
            if (id >= 0) ids[count++] = id
        }
        if (count < 2) return ids.copyOf(count)
        val next = IntArray(count) { if (it + 1 < count) it + 1 else -1 }
        val previous = IntArray(count) { it - 1 }
        val queue = PriorityQueue<Long>()
        for (i in 0 until count - 1) push(queue, ids, i, i + 1)
        while (true) {
            val best = queue.poll() ?: break
            val at = (best and 0xffffffffL).toInt()
            val right = next[at]
            // Out of date when its symbols were joined with others since.
            if (ids[at] < 0 || right < 0) continue
            val merge = merges.find(ids[at], ids[right])
            if (merge < 0 || merges.rank(merge) != (best ushr 32).toInt()) continue
            ids[at] = merges.result(merge)
            ids[right] = -1
            next[at] = next[right]
            if (next[at] >= 0) previous[next[at]] = at
            if (previous[at] >= 0) push(queue, ids, previous[at], at)
            if (next[at] >= 0) push(queue, ids, at, next[at])
        }
        return ids.take(count).filter { it >= 0 }.toIntArray()
    }

    private fun push(queue: PriorityQueue<Long>, ids: IntArray, left: Int, right: Int) {
        val merge = merges.find(ids[left], ids[right])
        if (merge >= 0) queue.add(merges.rank(merge).toLong() shl 32 or left.toLong())
    }

    private companion object {
        const val CACHED_WORDS = 8192
        const val LONGEST_CACHED = 64
    }
}

/** Pairs of tokens to rank and result: an open hash table without objects, for there are 150,000 of them. */
internal class Merges(expected: Int) {
    private val mask = Integer.highestOneBit(maxOf(16, expected * 2 - 1)) * 2 - 1
    private val keys = LongArray(mask + 1) { EMPTY }
    private val ranks = IntArray(mask + 1)
    private val results = IntArray(mask + 1)

    fun put(left: Int, right: Int, rank: Int, result: Int) {
        val key = key(left, right)
        var slot = slot(key)
        while (keys[slot] != EMPTY && keys[slot] != key) slot = slot + 1 and mask
        keys[slot] = key
        ranks[slot] = rank
        results[slot] = result
    }

    /** A handle for [rank] and [result], or -1. */
    fun find(left: Int, right: Int): Int {
        val key = key(left, right)
        var slot = slot(key)
        while (keys[slot] != EMPTY) {
            if (keys[slot] == key) return slot
            slot = slot + 1 and mask
        }
        return -1
    }

    fun rank(handle: Int): Int = ranks[handle]

    fun result(handle: Int): Int = results[handle]

    private fun key(left: Int, right: Int): Long = left.toLong() shl 32 or right.toLong()

    private fun slot(key: Long): Int = ((key * -7046029254386353131L) ushr 40).toInt() and mask

    private companion object {
        const val EMPTY = -1L
    }
}

/** A growing list of tokens. */
class IntList {
    private var values = IntArray(64)
    var size = 0
        private set

    fun add(value: Int) {
        if (size == values.size) values = values.copyOf(2 * size)
        values[size++] = value
    }

    fun toArray(): IntArray = values.copyOf(size)
}
