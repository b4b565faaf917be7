package dev.toolkit.trainer.tokenizer

/**
 * Byte-pair encoding: joins the pair of lowest rank, the leftmost first, until none is left.
 *
 * @param symbols what a piece begins as
 * @param merges rank and result of each pair that can be joined
 * @param whole the vocabulary, if a piece that is a token needs no joining (`ignore_merges`)
 * @param seams where a piece may be cut first
 */
internal class BytePairs(
    private val symbols: Symbols,
    private val merges: Merges,
    private val whole: Map<String, Int>?,
    private val seams: Seams?,
) {
    private val cache = object : LinkedHashMap<String, IntArray>(256, 0.75f, true) {
        override fun removeEldestEntry(eldest: Map.Entry<String, IntArray>) = size > CACHED_WORDS
    }

    /** Adds the tokens of a piece, given as code points. */
    fun encode(text: IntArray, begin: Int, end: Int, tokens: IntList) {
        if (seams == null) return encodePart(text, begin, end, tokens)
        var from = begin
        for (i in begin + 1 until end) {
            if (seams.between(text[i - 1], text[i])) {
                encodePart(text, from, i, tokens)
                from = i
            }
        }
        encodePart(text, from, end, tokens)
    }

    private fun encodePart(text: IntArray, begin: Int, end: Int, tokens: IntList) {
        if (end - begin > LONGEST_CACHED) {
            join(text, begin, end).forEach(tokens::add)
            return
        }
        val key = String(text, begin, end - begin)
        val known = cache[key] ?: join(text, begin, end).also { cache[key] = it }
        known.forEach(tokens::add)
    }

    private fun join(text: IntArray, begin: Int, end: Int): IntArray {
        whole?.get(symbols.written(text, begin, end))?.let { return intArrayOf(it) }
        val list = IntList()
        symbols.add(text, begin, end, list)
        val ids = list.toArray()
        val count = ids.size
        val next = IntArray(count) { if (it + 1 < count) it + 1 else -1 }
        val previous = IntArray(count) { it - 1 }
        val queue = LongHeap(count)
        for (i in 0 until count - 1) push(queue, ids, i, i + 1)
        while (!queue.isEmpty()) {
            val best = queue.poll()
            val at = best.toInt()
            val right = next[at]
            if (ids[at] < 0 || right < 0) continue
            // Symbols may have been joined with others since. As in `tokenizers`, what counts is whether the pair
            // still gives the same token, not whether it has the same rank.
            val result = merges.result((best ushr 32).toInt())
            val rank = merges.rank(ids[at], ids[right])
            if (rank < 0 || merges.result(rank) != result) continue
            ids[at] = result
            ids[right] = -1
            next[at] = next[right]
            if (next[at] >= 0) previous[next[at]] = at
            if (previous[at] >= 0) push(queue, ids, previous[at], at)
            if (next[at] >= 0) push(queue, ids, at, next[at])
        }
        return ids.filter { it >= 0 }.toIntArray()
    }

    private fun push(queue: LongHeap, ids: IntArray, left: Int, right: Int) {
        val rank = merges.rank(ids[left], ids[right])
        if (rank >= 0) queue.add(rank.toLong() shl 32 or left.toLong())
    }

    private companion object {
        const val CACHED_WORDS = 8192
        const val LONGEST_CACHED = 64
    }
}

/** Pairs of tokens to rank and result: an open hash table without objects, for there are up to 500,000 of them. */
internal class Merges(expected: Int) {
    private var keys = LongArray(tableSize(expected)) { EMPTY }
    private var ranks = IntArray(keys.size)
    private val results = IntList()

    val size get() = results.size

    /** Adds the pair of the next rank; of two that are equal the later counts. */
    fun add(left: Int, right: Int, result: Int) {
        if (2 * (size + 1) > keys.size) grow()
        put(key(left, right), size)
        results.add(result)
    }

    /** The rank of a pair, -1 if it is not joined. */
    fun rank(left: Int, right: Int): Int {
        val slot = slot(key(left, right))
        return if (keys[slot] == EMPTY) -1 else ranks[slot]
    }

    /** What the pair of a rank becomes. */
    fun result(rank: Int): Int = results[rank]

    private fun put(key: Long, rank: Int) {
        val slot = slot(key)
        keys[slot] = key
        ranks[slot] = rank
    }

    private fun grow() {
        val (oldKeys, oldRanks) = keys to ranks
        keys = LongArray(2 * oldKeys.size) { EMPTY }
        ranks = IntArray(keys.size)
        for (i in oldKeys.indices) if (oldKeys[i] != EMPTY) put(oldKeys[i], oldRanks[i])
    }

    private fun key(left: Int, right: Int): Long = left.toLong() shl 32 or right.toLong()

    /** Where a key is, or the empty place for it. */
    private fun slot(key: Long): Int {
        val mask = keys.size - 1
        var slot = ((key * -7046029254386353131L) ushr 40).toInt() and mask
        while (keys[slot] != EMPTY && keys[slot] != key) slot = slot + 1 and mask
        return slot
    }

    private companion object {
        const val EMPTY = -1L

        fun tableSize(expected: Int): Int = 2 * Integer.highestOneBit(maxOf(16, 2 * expected - 1))
    }
}
