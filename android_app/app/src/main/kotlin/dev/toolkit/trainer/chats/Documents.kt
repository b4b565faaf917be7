package dev.toolkit.trainer.chats

import dev.toolkit.trainer.Words
import org.json.JSONArray
import org.json.JSONObject

/** A text, or a prompt with its completion, or a chat; [source] is its place, for people. */
class TextDocument(
    val source: String, val text: String? = null, val prompt: String? = null, val completion: String = "", val messages: List<Message>? = null,
)

/** A row that is no document: its place, and why. */
class RowRefused(where: String, why: Int, vararg words: Any) : Exception("$where: ${Words.of(why, *short(words))}") {
    private companion object {
        const val LONGEST = 200

        fun short(words: Array<out Any>): Array<Any> = Array(words.size) { words[it].let { word -> if (word is String) word.take(LONGEST) else word } }
    }
}

/** Of a file of rows and chats: what has to be said before it can be learned. */
class Choices(
    /** Whose messages of a chat's export are learned: a name, or what tells people apart. */
    val me: String? = null,
    /** The column that is asked, if any, and the one that is learned, of a table. */
    val question: String? = null, val answer: String? = null,
)

/** Half a surrogate pair is no character; each becomes what broken UTF-8 becomes. */
internal fun repaired(text: String): String {
    if (text.none(Char::isSurrogate)) return text
    val out = StringBuilder(text.length)
    for ((i, c) in text.withIndex()) {
        val paired = c.isHighSurrogate() && text.getOrElse(i + 1) { ' ' }.isLowSurrogate() || c.isLowSurrogate() && text.getOrElse(i - 1) { ' ' }.isHighSurrogate()
        out.append(if (c.isSurrogate() && !paired) '\ufffd' else c)
    }
    return out.toString()
}

/** A value of JSON as templates take it. */
internal fun plainValue(value: Any?): Any? = when (value) {
    is JSONObject -> value.keys().asSequence().associate { repaired(it) to plainValue(value[it]) }
    is JSONArray -> List(value.length()) { plainValue(value[it]) }
    is String -> repaired(value)
    is Int -> value.toLong()
    JSONObject.NULL -> null
    else -> value
}
