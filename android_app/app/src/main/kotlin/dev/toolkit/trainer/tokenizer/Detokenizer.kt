package dev.toolkit.trainer.tokenizer

import dev.toolkit.trainer.store.Utf8
import java.io.ByteArrayOutputStream
import org.json.JSONArray
import org.json.JSONObject

/**
 * Turns the tokens of a reply into text while they come, in whole characters; joined, the texts are what the `tokenizers`
 * library decodes all of them to, without special tokens.
 */
class Detokenizer internal constructor(private val texts: Array<String?>, private val special: Set<Int>, private val writing: Writing) {
    private val bytes = ByteArrayOutputStream()
    private var spacesToStrip = writing.strippedSpaces

    /** Returns what is known of the text now and was not before. */
    fun add(token: Int): String {
        if (token in special) return ""
        val text = texts.getOrNull(token) ?: return ""
        return if (writing.byteLevel) addBytes(text) else stripped(addPiece(text))
    }

    /** Returns what is left at the end; of half a character what stands for one. */
    fun rest(): String = if (writing.byteLevel) taken(bytes.size()) else stripped(brokenBytes())

    private fun addBytes(text: String): String {
        val own = ByteCharacters.bytes(text) ?: text.toByteArray()
        bytes.write(own)
        return taken(bytes.size() - Utf8.unfinished(bytes.toByteArray()))
    }

    /** Takes so many bytes from those that wait. */
    private fun taken(count: Int): String {
        val all = bytes.toByteArray()
        bytes.reset()
        bytes.write(all, count, all.size - count)
        return Utf8.decode(all.copyOf(count), withMark = true)
    }

    private fun addPiece(text: String): String {
        val byte = if (writing.byteFallback) BYTE.matchEntire(text) else null
        if (byte == null) return brokenBytes() + writing.replacements.fold(text) { part, (old, new) -> part.replace(old, new) }
        bytes.write(byte.groupValues[1].toInt(16))
        val all = bytes.toByteArray()
        val decoded = Utf8.decode(all, withMark = true)
        return if (decoded.toByteArray().contentEquals(all)) decoded.also { bytes.reset() } else ""
    }

    /** Bytes that are no characters, each by itself. */
    private fun brokenBytes(): String = "\ufffd".repeat(bytes.size()).also { bytes.reset() }

    private fun stripped(text: String): String {
        if (text.isEmpty() || spacesToStrip == 0) return text
        val spaces = text.takeWhile { it == ' ' }.length.coerceAtMost(spacesToStrip)
        spacesToStrip = if (spaces == text.length) spacesToStrip - spaces else 0
        return text.substring(spaces)
    }

    private companion object {
        val BYTE = Regex("<0x([0-9A-Fa-f]{2})>")
    }
}

/** What stands under `decoder` in a tokenizer.json. */
internal class Writing(
    val byteLevel: Boolean, val byteFallback: Boolean = false, val replacements: List<Pair<String, String>> = emptyList(),
    val strippedSpaces: Int = 0,
) {
    companion object {
        fun of(value: Any?): Writing {
            val steps = if (value is JSONObject && value.getString("type") == "Sequence") steps(value.getJSONArray("decoders"))
            else listOfNotNull(value as? JSONObject)
            if (steps.singleOrNull()?.getString("type") == "ByteLevel") return Writing(byteLevel = true)
            val replacements = ArrayList<Pair<String, String>>()
            var stripped = 0
            var fallback = false
            for (step in steps) {
                when (val type = step.getString("type")) {
                    "Replace" -> {
                        val pattern = step.getJSONObject("pattern").optString("String").ifEmpty { unknown("it writes text by a pattern") }
                        replacements += pattern to step.getString("content")
                    }
                    "ByteFallback" -> fallback = true
                    "Fuse" -> Unit
                    "Strip" -> {
                        if (step.getString("content") != " " || step.getInt("stop") != 0) unknown("it strips more than spaces in front")
                        stripped = step.getInt("start")
                    }
                    else -> unknown("it writes text by $type")
                }
            }
            if (steps.isEmpty()) unknown("it does not say how text is written")
            return Writing(false, fallback, replacements, stripped)
        }

        private fun steps(list: JSONArray) = List(list.length()) { list.getJSONObject(it) }
    }
}
