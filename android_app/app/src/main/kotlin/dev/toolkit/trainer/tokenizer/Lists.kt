package dev.toolkit.trainer.tokenizer

/** A growing list of tokens. */
class IntList {
    private var values = IntArray(64)
    var size = 0
        private set

    fun add(value: Int) {
        if (size == values.size) values = values.copyOf(2 * size)
        values[size++] = value
    }

    operator fun get(index: Int): Int = values[index]

    fun toArray(): IntArray = values.copyOf(size)
}

/** A growing list of numbers without objects. */
internal class LongList {
    private var values = LongArray(64)
    private var size = 0

    fun add(value: Long) {
        if (size == values.size) values = values.copyOf(2 * size)
        values[size++] = value
    }

    fun sortedDistinct(): LongArray {
        values.sort(0, size)
        var kept = 0
        for (i in 0 until size) if (i == 0 || values[i] != values[kept - 1]) values[kept++] = values[i]
        return values.copyOf(kept)
    }
}

/** The least of its numbers first: a binary heap without objects, for a text may have millions of pairs. */
internal class LongHeap(expected: Int) {
    private var values = LongArray(maxOf(16, expected))
    private var size = 0

    fun isEmpty(): Boolean = size == 0

    fun add(value: Long) {
        if (size == values.size) values = values.copyOf(2 * size)
        var at = size++
        while (at > 0 && values[(at - 1) / 2] > value) {
            values[at] = values[(at - 1) / 2]
            at = (at - 1) / 2
        }
        values[at] = value
    }

    fun poll(): Long {
        val least = values[0]
        val last = values[--size]
        var at = 0
        while (2 * at + 1 < size) {
            var child = 2 * at + 1
            if (child + 1 < size && values[child + 1] < values[child]) child++
            if (values[child] >= last) break
            values[at] = values[child]
            at = child
        }
        values[at] = last
        return least
    }
}
