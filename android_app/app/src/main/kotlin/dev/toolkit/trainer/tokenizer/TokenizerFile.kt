package dev.toolkit.trainer.tokenizer

import android.util.JsonReader
import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.store.readTextUpTo
import java.io.File
import java.io.IOException
import org.json.JSONArray
import org.json.JSONException
import org.json.JSONObject

private const val LARGEST_FILE = 64L shl 20
private const val CONFIG_LIMIT = 4L shl 20
private val ROLES = listOf("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
private val BYTE = Regex("<0x[0-9A-Fa-f]{2}>")

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
        if (!file.isFile) throw AppException(Words.of(R.string.no_tokenizer))
        try {
            if (file.length() > LARGEST_FILE) unknown("it is larger than any that is known")
            file.bufferedReader().use { JsonReader(it).use(::readTop) }
            return build()
        } catch (error: UnknownComponent) {
            throw AppException(Words.of(R.string.tokenizer_unknown, error.message.orEmpty()))
        } catch (error: IOException) {
            throw AppException(Words.of(R.string.tokenizer_unreadable, error.message.orEmpty()), error)
        } catch (error: JSONException) {
            throw AppException(Words.of(R.string.tokenizer_unreadable, error.message.orEmpty()), error)
        } catch (error: NumberFormatException) {
            throw AppException(Words.of(R.string.tokenizer_damaged, error.message.orEmpty()), error)
        } catch (error: IllegalStateException) {
            throw AppException(Words.of(R.string.tokenizer_damaged, error.message.orEmpty()), error)
        }
    }

    /** The token that begins a text, or null; known once the file is read, as the two below. */
    fun beginToken(): Int? = token("bos_token")

    /** The token that ends a text, or null. */
    fun endToken(): Int? = token("eos_token")

    /** What fills a sequence up. */
    fun padToken(): Int = token("pad_token") ?: endToken() ?: 0

    /** What every token is written as, which of them only mark, and how; once the file is read. */
    private val writing by lazy {
        val tokens = Components.addedTokens(rest.optJSONArray("added_tokens"))
        val texts = arrayOfNulls<String>(1 + maxOf(model.vocabulary.values.max(), tokens.maxOfOrNull { it.id } ?: 0))
        for ((text, id) in model.vocabulary) texts[id] = text
        for (token in tokens) texts[token.id] = token.content
        Triple(texts, tokens.filter { it.special }.mapTo(HashSet()) { it.id }, Writing.of(rest.opt("decoder")))
    }

    /**
     * What turns the tokens of a reply into text; once the file is read.
     *
     * @throws AppException its way of writing is not known
     */
    fun detokenizer(): Detokenizer {
        try {
            return writing.let { (texts, special, how) -> Detokenizer(texts, special, how) }
        } catch (error: UnknownComponent) {
            throw AppException(Words.of(R.string.tokenizer_unknown_writing, error.message.orEmpty()))
        } catch (error: JSONException) {
            throw AppException(Words.of(R.string.tokenizer_unreadable, error.message.orEmpty()), error)
        }
    }

    /** The words of special tokens by their roles, as templates know them. */
    fun specialWords(): Map<String, String> = ROLES.mapNotNull { role -> word(role)?.let { role to it } }.toMap()

    /** The chat template, or null. */
    fun chatTemplate(): String? {
        File(folder, "chat_template.jinja").readTextUpTo(CONFIG_LIMIT)?.let { return it }
        return when (val value = config.opt("chat_template")) {
            is String -> value
            is JSONArray -> (0 until value.length()).map(value::getJSONObject).find { it.optString("name") == "default" }?.optString("template")
            else -> null
        }
    }

    /** The tokens that only mark; once the file is read. */
    fun specialTokens(): Set<Int> = writing.second + ROLES.mapNotNull(::token)

    /**
     * Tokens of a text, without those around it, and where in it they are.
     *
     * @throws AppException there is no telling
     */
    fun locate(tokenizer: Tokenizer, text: String): Located {
        try {
            val (texts, _, how) = writing
            return tokenizer.locate(text) { id ->
                val own = texts[id].orEmpty()
                if (how.byteLevel) own.length else if (how.byteFallback && BYTE.matches(own)) 1 else own.toByteArray().size
            }
        } catch (error: UnknownComponent) {
            throw AppException(Words.of(R.string.tokenizer_unknown, error.message.orEmpty()))
        }
    }

    private fun word(name: String): String? = when (val value = config.opt(name)) {
        is String -> value
        is JSONObject -> value.optString("content")
        else -> null
    }

    private fun token(name: String): Int? = word(name)?.let { added[it] ?: model.vocabulary[it] }

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
        checkIds(tokens)
        val (preTokenizer, byteLevel) = Components.preTokenizer(rest.opt("pre_tokenizer"))
        val byteFallback = flag("byte_fallback")
        if (!byteLevel && !byteFallback) unknown("it has neither ByteLevel nor byte_fallback")
        if (byteLevel && byteFallback) unknown("it has byte_fallback after the byte level")
        val unknown = Unknown(unknownToken(byteLevel), flag("fuse_unk"))
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

    /** One number for two texts, or two for one, and there is no telling which the model was trained with. */
    private fun checkIds(tokens: List<AddedToken>) {
        val texts = HashMap<Int, String>(2 * model.vocabulary.size)
        for ((text, id) in model.vocabulary) texts.put(id, text)?.let { unknown("its tokens $it and $text have one number, $id") }
        for (token in tokens) {
            val other = model.vocabulary[token.content]
            if (other != null && other != token.id) unknown("its token ${token.content} has two numbers, $other and ${token.id}")
            val text = texts.put(token.id, token.content)
            if (text != null && text != token.content) unknown("its tokens $text and ${token.content} have one number, ${token.id}")
        }
    }

    /** The token for text that the vocabulary lacks, null if there is none or every byte has a token. */
    private fun unknownToken(byteLevel: Boolean): Int? {
        val name = model.settings["unk_token"] as? String ?: return null
        val known = model.vocabulary[name]
        val all = (0..255).all { (if (byteLevel) ByteCharacters.of(it) else "<0x%02X>".format(it)) in model.vocabulary }
        if (known == null && !all) unknown("its vocabulary lacks its token $name for unknown text (unk_token)")
        return known
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
