package dev.toolkit.trainer.tokenizer

import android.util.JsonReader
import android.util.JsonToken
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.readTextUpTo
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject
import java.io.File
import java.io.IOException

private const val LARGEST_FILE = 64L shl 20
private const val CONFIG_LIMIT = 4L shl 20

/**
 * Reads tokenizer.json. What is not understood is refused: tokens that differ from those the model was trained
 * with would ruin it silently.
 */
class TokenizerFile(private val folder: File) {
    private var vocabulary = HashMap<String, Int>()
    private val merges = ArrayList<Pair<String, String>>()
    private var ignoreMerges = false
    private val rest = JSONObject()

    /** @throws AppException there is none, it is damaged, or of a kind that is not known */
    fun read(): Tokenizer {
        val file = File(folder, "tokenizer.json")
        if (!file.isFile) throw AppException("This model has no tokenizer, so it cannot learn from text on the phone.")
        if (file.length() > LARGEST_FILE) refuse("it is larger than any that is known")
        try {
            file.bufferedReader().use { JsonReader(it).use(::readTop) }
            return build()
        } catch (error: IOException) {
            throw AppException("The tokenizer of this model cannot be read: ${error.message}. Send the model again.", error)
        } catch (error: JSONException) {
            throw AppException("The tokenizer of this model cannot be read: ${error.message}. Send the model again.", error)
        } catch (error: NumberFormatException) {
            throw AppException("The tokenizer of this model is damaged: ${error.message}. Send the model again.", error)
        } catch (error: IllegalStateException) {
            throw AppException("The tokenizer of this model is damaged: ${error.message}. Send the model again.", error)
        }
    }

    /** The token that ends a text, or null. */
    fun endToken(tokenizer: Tokenizer): Int? = token("eos_token", tokenizer)

    /** What fills a sequence up. */
    fun padToken(tokenizer: Tokenizer): Int = token("pad_token", tokenizer) ?: endToken(tokenizer) ?: 0

    private fun token(name: String, tokenizer: Tokenizer): Int? {
        val config = try {
            JSONObject(File(folder, "tokenizer_config.json").readTextUpTo(CONFIG_LIMIT) ?: "{}")
        } catch (_: JSONException) {
            return null
        }
        val content = when (val value = config.opt(name)) {
            is String -> value
            is JSONObject -> value.optString("content")
            else -> return null
        }
        return tokenizer.encode(content).singleOrNull()
    }

    private fun readTop(reader: JsonReader) {
        reader.beginObject()
        while (reader.hasNext()) {
            val name = reader.nextName()
            if (name == "model") readModel(reader) else rest.put(name, value(reader))
        }
        reader.endObject()
    }

    /** The large part, token by token. */
    private fun readModel(reader: JsonReader) {
        reader.beginObject()
        while (reader.hasNext()) {
            when (val name = reader.nextName()) {
                "vocab" -> {
                    reader.beginObject()
                    while (reader.hasNext()) vocabulary[reader.nextName()] = reader.nextInt()
                    reader.endObject()
                }
                "merges" -> {
                    reader.beginArray()
                    while (reader.hasNext()) merges += merge(reader)
                    reader.endArray()
                }
                else -> checkModel(name, value(reader))
            }
        }
        reader.endObject()
    }

    private fun merge(reader: JsonReader): Pair<String, String> {
        if (reader.peek() == JsonToken.BEGIN_ARRAY) {
            reader.beginArray()
            val pair = reader.nextString() to reader.nextString()
            reader.endArray()
            return pair
        }
        val words = reader.nextString().split(' ')
        check(words.size == 2) { "a merge is not a pair" }
        return words[0] to words[1]
    }

    private fun checkModel(name: String, value: Any) {
        when (name) {
            "type" -> if (value != "BPE") refuse("its model is $value, not BPE")
            "ignore_merges" -> ignoreMerges = value == true
            "dropout" -> if (value != JSONObject.NULL && value != 0.0) refuse("it drops merges at random")
            "continuing_subword_prefix", "end_of_word_suffix" ->
                if (value != JSONObject.NULL && value != "") refuse("it marks parts of words")
            "byte_fallback" -> if (value == true) refuse("it is not byte-level")
        }
    }

    private fun build(): Tokenizer {
        check(vocabulary.isNotEmpty()) { "it has no vocabulary" }
        val normalize = normalizer(rest.opt("normalizer"))
        val splitters = ArrayList<Splitter>()
        var byteLevel = 0
        var prefixSpace = false
        for (step in sequence(rest.opt("pre_tokenizer"), "pretokenizers")) {
            if (byteLevel > 0) refuse("it splits after the byte level")
            when (val type = step.getString("type")) {
                "Digits" -> splitters += DigitSplitter(step.optBoolean("individual_digits"))
                "Split" -> splitters += pattern(step)
                "ByteLevel" -> {
                    byteLevel++
                    prefixSpace = step.optBoolean("add_prefix_space")
                    if (prefixSpace && splitters.isNotEmpty()) refuse("it adds spaces to parts of a text")
                    if (step.optBoolean("use_regex", true)) splitters += Gpt2Splitter
                }
                else -> refuse("it splits text by $type")
            }
        }
        if (byteLevel == 0) refuse("it is not byte-level")
        val (before, after) = template()
        return Tokenizer(
            normalize, splitters, prefixSpace, if (ignoreMerges) vocabulary else null, addedTokens(), before, after,
            bytePairs(), vocabulary.size,
        )
    }

    private fun bytePairs(): BytePairs {
        val table = Merges(merges.size)
        merges.forEachIndexed { rank, (left, right) ->
            val result = vocabulary[left + right]
            val first = vocabulary[left]
            val second = vocabulary[right]
            check(result != null && first != null && second != null) { "a merge is not in the vocabulary" }
            table.put(first, second, rank, result)
        }
        return BytePairs(IntArray(256) { vocabulary[ByteCharacters.of(it)] ?: -1 }, table)
    }

    private fun normalizer(value: Any?): Boolean {
        val steps = sequence(value, "normalizers")
        for (step in steps) if (step.getString("type") != "NFC") refuse("it normalizes text by ${step.getString("type")}")
        return steps.isNotEmpty()
    }

    private fun pattern(step: JSONObject): Splitter {
        if (step.optString("behavior") != "Isolated" || step.optBoolean("invert")) refuse("it splits in an unknown way")
        val regex = step.getJSONObject("pattern").optString("Regex")
        return PATTERNS[regex] ?: refuse("its pattern is not known")
    }

    private fun addedTokens(): List<AddedToken> {
        val list = rest.optJSONArray("added_tokens") ?: JSONArray()
        return List(list.length()) { index ->
            val token = list.getJSONObject(index)
            val content = token.getString("content")
            val plain = !token.optBoolean("single_word") && !token.optBoolean("lstrip") && !token.optBoolean("rstrip")
            if (!plain) refuse("its token $content is matched in a special way")
            AddedToken(token.getInt("id"), content)
        }
    }

    /** Tokens before and after a text, for example Llama's beginning of text. */
    private fun template(): Pair<IntArray, IntArray> {
        val before = IntList()
        val after = IntList()
        for (step in sequence(rest.opt("post_processor"), "processors")) {
            when (val type = step.getString("type")) {
                "ByteLevel" -> Unit
                "TemplateProcessing" -> readTemplate(step, before, after)
                else -> refuse("it adds tokens by $type")
            }
        }
        return before.toArray() to after.toArray()
    }

    private fun readTemplate(step: JSONObject, before: IntList, after: IntList) {
        val single = step.getJSONArray("single")
        var passed = false
        for (i in 0 until single.length()) {
            val part = single.getJSONObject(i)
            if (part.has("Sequence")) {
                passed = true
                continue
            }
            val name = part.getJSONObject("SpecialToken").getString("id")
            val ids = step.getJSONObject("special_tokens").getJSONObject(name).getJSONArray("ids")
            for (k in 0 until ids.length()) (if (passed) after else before).add(ids.getInt(k))
        }
    }

    /** A step alone, or the steps of a `Sequence`. */
    private fun sequence(value: Any?, member: String): List<JSONObject> {
        if (value !is JSONObject) return emptyList()
        if (value.getString("type") != "Sequence") return listOf(value)
        val steps = value.getJSONArray(member)
        return List(steps.length()) { steps.getJSONObject(it) }
    }

    private fun value(reader: JsonReader): Any = when (reader.peek()) {
        JsonToken.BEGIN_OBJECT -> JSONObject().also {
            reader.beginObject()
            while (reader.hasNext()) it.put(reader.nextName(), value(reader))
            reader.endObject()
        }
        JsonToken.BEGIN_ARRAY -> JSONArray().also {
            reader.beginArray()
            while (reader.hasNext()) it.put(value(reader))
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

    private fun refuse(why: String): Nothing =
        throw AppException("The tokenizer of this model is not one that this app knows: $why. Make the data with: toolkit data")

    private companion object {
        private fun cl100k(digits: String) = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|$digits|" +
            " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

        val PATTERNS: Map<String, Splitter> = mapOf(
            cl100k("\\p{N}") to Cl100kSplitter(1),
            cl100k("\\p{N}{1,3}") to Cl100kSplitter(3),
        )
    }
}
