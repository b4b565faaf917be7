package dev.toolkit.trainer.tokenizer

import org.json.JSONArray
import org.json.JSONObject
import java.text.Normalizer

/** Something of a tokenizer.json that this app does not do as `tokenizers` does; [message] names it. */
internal class UnknownComponent(message: String) : Exception(message)

internal fun unknown(what: String): Nothing = throw UnknownComponent(what)

/** Reads the parts of a tokenizer.json around its model. */
internal object Components {
    /** @param value what stands under `normalizer` */
    fun normalizer(value: Any?): TextStep {
        val steps = sequence(value, "normalizers").map(::normalizerStep)
        return { text -> steps.fold(text) { part, step -> step(part) } }
    }

    private fun normalizerStep(step: JSONObject): TextStep {
        val type = step.getString("type")
        NORMAL_FORMS[type]?.let { form -> return { Normalizer.normalize(it, form) } }
        return when (type) {
            "Prepend" -> step.getString("prepend").let { prefix -> { if (it.isEmpty()) it else prefix + it } }
            "Replace" -> {
                val pattern = literal(step) ?: unknown("it replaces text by a pattern")
                val content = step.getString("content")
                return { it.replace(pattern, content) }
            }
            else -> unknown("it normalizes text by $type")
        }
    }

    /** @return the pre-tokenizer, and whether it ends in the byte level */
    fun preTokenizer(value: Any?): Pair<PreTokenizer, Boolean> {
        var prefix: (String, Boolean) -> String = { text, _ -> text }
        val splitters = ArrayList<Splitter>()
        var byteLevel = false
        for ((index, step) in sequence(value, "pretokenizers").withIndex()) {
            if (byteLevel) unknown("it splits after the byte level")
            when (val type = step.getString("type")) {
                "Digits" -> splitters += DigitSplitter(step.optBoolean("individual_digits"))
                "Split" -> splitters += split(step)
                "Metaspace" -> {
                    if (index > 0) unknown("its Metaspace comes after another step")
                    prefix = metaspace(step, splitters)
                }
                "ByteLevel" -> {
                    byteLevel = true
                    if (step.optBoolean("add_prefix_space")) {
                        if (index > 0) unknown("it adds spaces to parts of a text")
                        prefix = { text, _ -> if (text.startsWith(" ")) text else " $text" }
                    }
                    if (step.optBoolean("use_regex", true)) splitters += Gpt2Splitter
                }
                else -> unknown("it splits text by $type")
            }
        }
        return PreTokenizer(prefix, splitters) to byteLevel
    }

    private fun metaspace(step: JSONObject, splitters: MutableList<Splitter>): (String, Boolean) -> String {
        val mark = step.optString("replacement", "\u2581")
        if (step.optBoolean("split", true)) splitters += LiteralSplitter(points(mark), Delimiter.MergedWithNext)
        // Files of before 2024 have `add_prefix_space` instead.
        val scheme = if (step.has("prepend_scheme")) step.getString("prepend_scheme")
        else if (step.optBoolean("add_prefix_space", true)) "always" else "never"
        if (scheme !in listOf("always", "first", "never")) unknown("its Metaspace prepends $scheme")
        return { text, first ->
            val marked = text.replace(" ", mark)
            val wanted = scheme == "always" || scheme == "first" && first
            if (wanted && !marked.startsWith(mark)) mark + marked else marked
        }
    }

    private fun split(step: JSONObject): Splitter {
        val behavior = step.optString("behavior")
        val invert = step.optBoolean("invert")
        literal(step)?.let { text ->
            val delimiter = Delimiter.entries.find { it.name == behavior }
            if (delimiter == null || invert || text.isEmpty()) unknown("its Split behaves as $behavior")
            return LiteralSplitter(points(text), delimiter)
        }
        // These patterns match every character, so that what is not matched and left out is nothing.
        if (behavior != "Isolated" && !(behavior == "Removed" && invert)) unknown("its Split behaves as $behavior")
        return PATTERNS[step.getJSONObject("pattern").optString("Regex")] ?: unknown("its pattern is not known")
    }

    fun addedTokens(list: JSONArray?): List<AddedToken> = List(list?.length() ?: 0) { index ->
        val token = list!!.getJSONObject(index)
        val content = token.getString("content")
        if (token.optBoolean("single_word")) unknown("its token $content is found only as a word (single_word)")
        AddedToken(
            token.getInt("id"), content, token.optBoolean("lstrip"), token.optBoolean("rstrip"), token.optBoolean("normalized"),
            token.optBoolean("special"),
        )
    }

    /** @param value what stands under `post_processor` */
    fun template(value: Any?): Template {
        var template = Template(emptyList(), emptyList())
        for (step in sequence(value, "processors")) {
            when (val type = step.getString("type")) {
                "ByteLevel" -> Unit
                "TemplateProcessing" -> {
                    val outer = readTemplate(step)
                    template = Template(outer.before + template.before, template.after + outer.after)
                }
                else -> unknown("it adds tokens by $type")
            }
        }
        return template
    }

    private fun readTemplate(step: JSONObject): Template {
        val single = step.getJSONArray("single")
        val before = ArrayList<Int>()
        val after = ArrayList<Int>()
        var passed = 0
        for (i in 0 until single.length()) {
            val part = single.getJSONObject(i)
            if (part.has("Sequence")) {
                passed++
                continue
            }
            val name = part.getJSONObject("SpecialToken").getString("id")
            val ids = step.getJSONObject("special_tokens").getJSONObject(name).getJSONArray("ids")
            for (k in 0 until ids.length()) (if (passed > 0) after else before).add(ids.getInt(k))
        }
        if (passed != 1) unknown("its TemplateProcessing takes the text $passed times")
        return Template(before, after)
    }

    /** A step alone, or the steps of a `Sequence`. */
    private fun sequence(value: Any?, member: String): List<JSONObject> {
        if (value !is JSONObject) return emptyList()
        if (value.getString("type") != "Sequence") return listOf(value)
        val steps = value.getJSONArray(member)
        return (0 until steps.length()).flatMap { sequence(steps.getJSONObject(it), member) }
    }

    /** The text that a step looks for, null if it is a pattern. */
    private fun literal(step: JSONObject): String? =
        step.getJSONObject("pattern").let { if (it.has("String")) it.getString("String") else null }

    private fun points(text: String): IntArray = text.codePoints().toArray()

    private const val CONTRACTION = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    private const val LINES = "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

    private fun cl100k(digits: String) =
        "$CONTRACTION|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|$digits| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|$LINES"

    private const val O200K = "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+$CONTRACTION?|" +
        "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*$CONTRACTION?|" +
        "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|$LINES"

    private val PATTERNS: Map<String, Splitter> = mapOf(
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+" to Gpt2Splitter,
        cl100k("\\p{N}") to Cl100kSplitter(1),
        cl100k("\\p{N}{1,3}") to Cl100kSplitter(3),
        O200K to O200kSplitter,
    )

    private val NORMAL_FORMS = Normalizer.Form.entries.associateBy { it.name }
}
