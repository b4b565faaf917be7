package dev.toolkit.trainer.tokenizer

/** Tokens with the characters of the text that they are of. */
class Located {
    private val ids = IntList()
    private val first = IntList()
    private val last = IntList()
    val size get() = ids.size

    /** Past the last character of the last token, null before the first. */
    internal val end: Int? get() = if (size == 0) null else last[size - 1]

    internal fun add(id: Int, begin: Int, end: Int) {
        ids.add(id)
        first.add(begin)
        last.add(end)
    }

    fun tokens(): IntArray = ids.toArray()

    fun begins(): IntArray = first.toArray()

    fun ends(): IntArray = last.toArray()
}

/** Where a character of a normalized text comes from. */
internal class Alignment(private val text: String, private val normal: String, normalize: TextStep) {
    private val shift = normal.length - text.length

    /** Of each character of the normalized text, and of its end; null where the two are alike, but for spaces and one put before. */
    private val places = if (shift in 0..1 && text.indices.all { text[it] == normal[it + shift] || text[it] == ' ' }) null else found(normalize)

    /** What was put before has the place of the first character, as in `tokenizers`. */
    fun of(at: Int): Int = if (places != null) places[at] else if (at == 0) 0 else maxOf(1, at - shift)

    /** Piece by piece: what is below U+0300 is joined with nothing before it. */
    private fun found(normalize: TextStep): IntArray {
        val places = IntArray(normal.length + 1)
        var from = 0
        var at = 0
        while (from < text.length) {
            var to = from + 1
            while (to < text.length && text[to].code >= COMBINING) to++
            val piece = normalize(text.substring(from, to))
            if (!normal.startsWith(piece, at)) unknown("it changes texts in a way that cannot be followed")
            for (i in 0 until piece.length) places[at + i] = if (piece.length == to - from) from + i else if (i == 0) from else to
            at += piece.length
            from = to
        }
        places[normal.length] = text.length
        return places
    }

    private companion object {
        const val COMBINING = 0x300
    }
}

/** Goes through a text by bytes of UTF-8 and says how many characters are begun by then. */
internal class CharacterEnds(private val text: String, private val prefix: Int) {
    private var bytes = 0
    private var reached = 0
    private var at = 0

    /** Characters, without those put before, up to the end of a token of so many bytes. */
    fun after(size: Int): Int {
        bytes += size
        while (reached < bytes && at < text.length) {
            val point = text.codePointAt(at)
            reached += if (point < 0x80) 1 else if (point < 0x800) 2 else if (point < 0x10000) 3 else 4
            at += Character.charCount(point)
        }
        return if (at == 0) 0 else maxOf(1, at - prefix)
    }

    /** Every byte has to be in some token. */
    fun check() {
        if (reached != bytes || at != text.length) unknown("its tokens are not all of the text")
    }
}
