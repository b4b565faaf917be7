package dev.toolkit.trainer.tokenizer

/** A token that is found in the text as it is, before anything is split; with white space beside it if it strips. */
internal data class AddedToken(
    val id: Int, val content: String, val stripsLeft: Boolean, val stripsRight: Boolean, val normalized: Boolean,
    /** No text of its own: it marks. */
    val special: Boolean,
)

/** Finds added tokens: the leftmost first, of those the longest. Models have up to 6,000 of them. */
internal class AddedTokens(tokens: List<AddedToken>) {
    private val byContent = tokens.filter { it.content.isNotEmpty() }.associateBy { it.content }
    private val lengths: Map<Char, List<Int>> = byContent.keys.groupBy({ it[0] }, { it.length })
        .mapValues { (_, values) -> values.distinct().sortedDescending() }

    /** Calls [token] for every one found, with its place, and [plain] for the text between, in order. */
    inline fun split(text: String, plain: (Int, Int) -> Unit, token: (Int, Int, Int) -> Unit) {
        var done = 0
        var at = 0
        while (at < text.length) {
            val found = find(text, at)
            if (found == null) {
                at++
                continue
            }
            val begin = if (found.stripsLeft) leftOfSpaces(text, at, done) else at
            if (done < begin) plain(done, begin)
            at += found.content.length
            done = if (found.stripsRight) rightOfSpaces(text, at) else at
            token(found.id, begin, done)
        }
        if (done < text.length) plain(done, text.length)
    }

    fun find(text: String, at: Int): AddedToken? {
        for (length in lengths[text[at]] ?: return null) {
            if (at + length <= text.length) byContent[text.substring(at, at + length)]?.let { return it }
        }
        return null
    }

    fun leftOfSpaces(text: String, at: Int, least: Int): Int {
        var begin = at
        while (begin > least && Characters.isSpace(text[begin - 1].code)) begin--
        return begin
    }

    fun rightOfSpaces(text: String, at: Int): Int {
        var end = at
        while (end < text.length && Characters.isSpace(text[end].code)) end++
        return end
    }
}
