package dev.toolkit.trainer.tokenizer

import android.util.JsonReader
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.readTextUpTo
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
    private val model = ModelReader()
    private val rest = JSONObject()
    private val added = HashMap<String, Int>()
    private val config: JSONObject by lazy {
        try {
            JSONObject(File(folder, "tokenizer_config.json").readTextUpTo(CONFIG_LIMIT) ?: "{}")
        } catch (_: JSONException) {
            JSONObject()
        }
    }

    /** @throws AppException there is none, it is damaged, or of a kind that is not known */
    fun read(): Tokenizer {
        val file = File(folder, "tokenizer.json")
        if (!file.isFile) throw AppException("This model has no tokenizer, so it cannot learn from text on the phone.")
        try {
            if (file.length() > LARGEST_FILE) unknown("it is larger than any that is known")
            file.bufferedReader().use { JsonReader(it).use(::readTop) }
            return build()
        } catch (error: UnknownComponent) {
            throw AppException("The tokenizer of this model is not one that this app knows: ${error.message}. Make the data with: toolkit data")
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

    /** The token that begins a text, or null; known once the file is read, as the two below. */
    fun beginToken(): Int? = token("bos_token")

    /** The token that ends a text, or null. */
    fun endToken(): Int? = token("eos_token")

    /** What fills a sequence up. */
    fun padToken(): Int = token("pad_token") ?: endToken() ?: 0

    private fun token(name: String): Int? {
        val content = when (val value = config.opt(name)) {
            is String -> value
            is JSONObject -> value.optString("content")
            else -> return null
        }
        return added[content] ?: model.vocabulary[content]
    }

    private fun readTop(reader: JsonReader) {
        reader.beginObject()
        while (reader.hasNext()) {
            val name = reader.nextName()
            if (name == "model") model.read(reader) else rest.put(name, jsonValue(reader))
        }
        reader.endObject()
    }

    private fun build(): Tokenizer {
        val vocabulary = model.vocabulary
        check(vocabulary.isNotEmpty()) { "it has no vocabulary" }
        checkModel()
        val tokens = Components.addedTokens(rest.optJSONArray("added_tokens"))
        tokens.associateTo(added) { it.content to it.id }
        val (preTokenizer, byteLevel) = Components.preTokenizer(rest.opt("pre_tokenizer"))
        val byteFallback = flag("byte_fallback")
        if (!byteLevel && !byteFallback) unknown("it has neither ByteLevel nor byte_fallback")
        if (byteLevel && byteFallback) unknown("it has byte_fallback after the byte level")
        val unknown = Unknown((model.settings["unk_token"] as? String)?.let { vocabulary[it] }, flag("fuse_unk"))
        val whole = vocabulary.takeIf { flag("ignore_merges") }
        val pairs = if (byteLevel) {
            BytePairs(ByteSymbols(vocabulary, unknown), model.merges(), whole, null)
        } else {
            val symbols = CharacterSymbols(vocabulary, byteFallback, unknown)
            BytePairs(symbols, model.merges(), whole, if (whole == null) Seams(vocabulary.keys, symbols) else null)
        }
        return Tokenizer(
            tokens, Components.normalizer(rest.opt("normalizer")), preTokenizer, Components.template(rest.opt("post_processor")), pairs,
        )
    }

    private fun flag(name: String): Boolean = model.settings[name] == true

    private fun checkModel() {
        for ((name, value) in model.settings) {
            when (name) {
                "type" -> if (value != "BPE") unknown("its model is $value, not BPE")
                "dropout" -> if (value != JSONObject.NULL && value != 0.0) unknown("it drops merges at random")
                "continuing_subword_prefix", "end_of_word_suffix" ->
                    if (value != JSONObject.NULL && value != "") unknown("it marks parts of words ($name)")
            }
        }
    }
}
