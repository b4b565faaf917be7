package dev.toolkit.trainer.tokenizer

import android.util.JsonReader
import android.util.JsonToken
import org.json.JSONArray
import org.json.JSONObject

/** What a tokenizer.json says under `model`, read token by token: it has up to 260,000 tokens and 520,000 merges. */
internal class ModelReader {
    val vocabulary = HashMap<String, Int>()

    /** What the model says of itself besides vocabulary and merges. */
    val settings = HashMap<String, Any>()
    private var merges = Merges(0)

    /** Merges that came before the vocabulary. */
    private val early = ArrayList<Pair<String, String>>()

    fun read(reader: JsonReader) {
        reader.beginObject()
        while (reader.hasNext()) {
            when (val name = reader.nextName()) {
                "vocab" -> readVocabulary(reader)
                "merges" -> readMerges(reader)
                else -> settings[name] = jsonValue(reader)
            }
        }
        reader.endObject()
    }

    fun merges(): Merges {
        for ((left, right) in early) add(left, right)
        early.clear()
        return merges
    }

    private fun readVocabulary(reader: JsonReader) {
        reader.beginObject()
        while (reader.hasNext()) vocabulary[reader.nextName()] = reader.nextInt()
        reader.endObject()
        merges = Merges(vocabulary.size)
    }

    private fun readMerges(reader: JsonReader) {
        val known = vocabulary.isNotEmpty()
        reader.beginArray()
        while (reader.hasNext()) {
            val (left, right) = pair(reader)
            if (known) add(left, right) else early += left to right
        }
        reader.endArray()
    }

    private fun pair(reader: JsonReader): List<String> {
        val words = if (reader.peek() == JsonToken.BEGIN_ARRAY) {
            ArrayList<String>(2).also {
                reader.beginArray()
                while (reader.hasNext()) it += reader.nextString()
                reader.endArray()
            }
        } else {
            reader.nextString().split(' ')
        }
        check(words.size == 2) { "a merge is not a pair" }
        return words
    }

    private fun add(left: String, right: String) {
        val first = vocabulary[left]
        val second = vocabulary[right]
        val result = vocabulary[left + right]
        check(first != null && second != null && result != null) { "a merge is not in the vocabulary" }
        merges.add(first, second, result)
    }
}

/** The value that comes next, as org.json has it. */
internal fun jsonValue(reader: JsonReader): Any = when (reader.peek()) {
    JsonToken.BEGIN_OBJECT -> JSONObject().also {
        reader.beginObject()
        while (reader.hasNext()) it.put(reader.nextName(), jsonValue(reader))
        reader.endObject()
    }
    JsonToken.BEGIN_ARRAY -> JSONArray().also {
        reader.beginArray()
        while (reader.hasNext()) it.put(jsonValue(reader))
        reader.endArray()
    }
    JsonToken.BOOLEAN -> reader.nextBoolean()
    JsonToken.NUMBER -> reader.nextDouble()
    JsonToken.NULL -> {
        reader.nextNull()
        JSONObject.NULL
    }
    else -> reader.nextString()
}
