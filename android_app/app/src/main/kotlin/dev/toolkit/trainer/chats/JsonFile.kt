package dev.toolkit.trainer.chats

import dev.toolkit.trainer.R
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import org.json.JSONTokener

/** JSON Lines, and JSON files that are a list of records or a single one: toolkit/data/formats/json_records.py. */
internal object JsonFile {
    private val SUFFIXES = listOf(".jsonl", ".ndjson", ".json")
    private val RECORD = Regex("\\s*(\\{\\s*(\"|$|\\})|\\[\\s*(\\{|$))")

    fun recognizes(name: String, text: String): Boolean {
        if (SUFFIXES.any { name.lowercase().endsWith(it) }) return true
        val start = text.lineSequence().firstOrNull(String::isNotBlank) ?: return false
        if (RECORD.matchAt(start, 0) == null) return false
        return parse(start) != null || text.trimEnd().run { endsWith('}') || endsWith(']') } && whole(text) != null
    }

    /** @throws RowRefused a row is no record */
    fun read(name: String, text: String): Sequence<TextDocument> = when (val whole = whole(text)) {
        is JSONArray -> (0 until whole.length()).asSequence().map { Records.document(plainValue(whole[it]), "$name[$it]") }
        is JSONObject -> sequenceOf(Records.document(plainValue(whole), name))
        else -> lines(name, text)
    }

    /** A file that is one list, or one object over several lines; null for other files. */
    private fun whole(text: String): Any? {
        val start = text.trimStart()
        if (!start.startsWith("[") && parse(start.substringBefore('\n')) != null) return null
        return parse(text)
    }

    // Only "\n" ends a line: JSON texts may hold other ends.
    private fun lines(name: String, text: String) = text.splitToSequence('\n').withIndex().filter { it.value.isNotBlank() }.map { (index, line) ->
        val value = parse(line) ?: throw RowRefused("$name:${index + 1}", R.string.record_no_json)
        Records.document(plainValue(value), "$name:${index + 1}")
    }

    /** A list or an object and nothing behind it, or null. */
    fun parse(text: String): Any? = try {
        val reader = JSONTokener(text.trim())
        val value = reader.nextValue()
        value.takeIf { (it is JSONObject || it is JSONArray) && reader.nextClean() == '\u0000' }
    } catch (_: JSONException) {
        null
    } catch (_: StackOverflowError) {
        null
    }
}
