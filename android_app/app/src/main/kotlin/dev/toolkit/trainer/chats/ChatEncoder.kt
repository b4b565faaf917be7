package dev.toolkit.trainer.chats

import dev.toolkit.trainer.R
import dev.toolkit.trainer.Words
import dev.toolkit.trainer.store.AppException
import dev.toolkit.trainer.template.Jinja
import dev.toolkit.trainer.template.JinjaLexer
import dev.toolkit.trainer.template.TemplateError
import dev.toolkit.trainer.tokenizer.Tokenizer
import dev.toolkit.trainer.tokenizer.TokenizerFile

/** A message as chat templates take it: role, content, and what else a record has. */
typealias Message = Map<String, Any?>

/** Tokens, and which of them are learned. */
class Encoded(val tokens: IntArray, val mask: BooleanArray) {
    constructor(tokens: IntArray) : this(tokens, BooleanArray(tokens.size) { true })
}

/**
 * Chats to tokens with an exact mask of what the assistant writes: toolkit/data/chat.py, whose words say how, with a tokenizer and
 * a template of this app.
 */
class ChatEncoder(private val file: TokenizerFile, private val tokenizer: Tokenizer, source: String) {
    private class Refused(message: String) : Exception(message)

    /** Characters [begin, end) of a rendering. */
    private class Span(val begin: Int, val end: Int)

    private class Places(val tokens: IntArray, val special: BooleanArray, val begins: IntArray, val ends: IntArray)

    private val template = refusing { Jinja(source) }
    private val marked = "endgeneration" in source
    private val words = file.specialWords()
    private val special = file.specialTokens()

    /** How many tokens a chat has. */
    fun length(messages: List<Message>): Int = refusing { tokenize(render(messages)).tokens.size }

    /** The tokens up to where the next reply begins. */
    fun prompt(messages: List<Message>): IntArray = refusing { tokenize(render(messages, prompt = true)).tokens }

    /** The chat's tokens, in as many renderings as it takes to learn each reply in one of them, the longest first. */
    fun encode(messages: List<Message>): List<Encoded> = refusing { renderings(messages) }

    /** The special token that the template puts behind a reply, or null where there is none or no telling. */
    fun endOfReply(): Int? = try {
        val learned = encode(listOf("user", ASSISTANT).map { Records.message(it, it) })[0]
        learned.mask.indices.lastOrNull { learned.mask[it] }?.let { learned.tokens[it] }?.takeIf { it in special }
    } catch (_: AppException) {
        null
    }

    private fun <T> refusing(act: () -> T): T = try {
        act()
    } catch (error: TemplateError) {
        throw AppException(Words.of(R.string.template_refuses, error.message.orEmpty()), error)
    } catch (error: Refused) {
        throw AppException(Words.of(R.string.template_refuses, error.message.orEmpty()), error)
    } catch (error: AppException) {
        throw error
    } catch (error: RuntimeException) {
        throw AppException(Words.of(R.string.template_refuses, error.javaClass.simpleName), error)
    } catch (error: StackOverflowError) {
        throw AppException(Words.of(R.string.template_refuses, error.javaClass.simpleName), error)
    }

    private fun renderings(all: List<Message>): List<Encoded> {
        var messages = all
        var replies = all.indices.filter { all[it]["role"] == ASSISTANT }
        val through = if (marked) emptyMap() else replies.associateWith { render(all.subList(0, it + 1)) }
        val found = ArrayList<Encoded>()
        while (true) {
            val text = render(messages)
            val missed = ArrayList<Int>()
            val spans = if (marked) markedSpans(text, messages, replies) else spans(text, messages, replies.associateWith { through.getValue(it) }, missed)
            if (spans.isNotEmpty() || replies.isEmpty()) found += masked(text, spans)
            if (missed.isEmpty()) return found
            messages = messages.subList(0, missed.last() + 1)
            replies = missed
        }
    }

    private fun masked(text: String, spans: List<Span>): Encoded {
        val places = tokenize(text)
        val mask = BooleanArray(places.tokens.size)
        for (span in spans) {
            val inside = BooleanArray(mask.size) {
                places.begins[it] < span.end && places.ends[it] > span.begin && !(places.special[it] && places.begins[it] < span.begin)
            }
            withoutTail(inside, places, text, span.end)
            for (i in mask.indices) mask[i] = mask[i] || inside[i]
        }
        return Encoded(places.tokens, mask)
    }

    private fun withoutTail(inside: BooleanArray, places: Places, text: String, end: Int) {
        val last = inside.indices.lastOrNull { inside[it] && places.special[it] } ?: return
        if (places.ends[last] < end && text.substring(places.ends[last], end).any { !JinjaLexer.isSpace(it) }) return
        for (i in last + 1 until inside.size) inside[i] = false
    }

    private fun spans(text: String, messages: List<Message>, replies: Map<Int, String>, missed: MutableList<Int>): List<Span> {
        val spans = ArrayList<Span>()
        val closing = closing(text, messages)
        for ((index, whole) in replies) {
            val through = if (closing.isNotEmpty() && whole.endsWith(closing)) unclosed(whole, closing) else whole
            if (!text.startsWith(through)) {
                missed += index
                continue
            }
            val begin = promptLength(through, messages, index) ?: contentStart(messages, index)
            spans += Span(begin, through.length)
        }
        return spans
    }

    /** The token that the template ends a chat with when no reply is asked for, or "". */
    private fun closing(text: String, messages: List<Message>): String {
        val end = words["eos_token"].orEmpty()
        if (end.isEmpty() || !text.endsWith(end)) return ""
        val prompt = try {
            render(messages, prompt = true)
        } catch (_: TemplateError) {
            return ""
        }
        return if (prompt.startsWith(text)) "" else end
    }

    /** Leaves the closing token away, unless it is all that ends the reply. */
    private fun unclosed(text: String, closing: String): String {
        val rest = text.removeSuffix(closing)
        return if (tokenize(rest.trimEnd(JinjaLexer::isSpace)).special.lastOrNull() == true) rest else text
    }

    /** The length of the prompt for a turn, or null where there is no telling. */
    private fun promptLength(through: String, messages: List<Message>, index: Int): Int? {
        val before = messages.subList(0, index)
        val (plain, prompt) = try {
            render(before) to render(before, prompt = true)
        } catch (_: TemplateError) {
            return null // Some templates refuse an empty chat: the assistant spoke first.
        }
        if (!through.startsWith(prompt)) return null
        val rest = through.substring(prompt.length).trimStart(JinjaLexer::isSpace)
        val content = (messages[index]["content"] as String).trim(JinjaLexer::isSpace)
        // A template may write a role header without offering it as generation prompt.
        return if (prompt == plain && !rest.startsWith(content)) null else prompt.length
    }

    /** Where the content of a turn begins, found by rendering two others. */
    private fun contentStart(messages: List<Message>, index: Int): Int {
        val (one, two) = PROBES.map { render(messages.subList(0, index) + (messages[index] + ("content" to it))) }
        if (one == two) throw Refused(Words.of(R.string.template_hides))
        return one.indices.first { one[it] != two[it] }
    }

    private fun markedSpans(text: String, messages: List<Message>, replies: List<Int>): List<Span> {
        val found = ArrayList<Span>()
        template.render(values(messages, false)) { begin, end -> found += Span(begin, end) }
        val prompts = replies.mapNotNull { promptLength(text, messages, it) }
        return found.map { span -> Span((prompts.filter { it > span.begin && it <= span.end } + span.begin).max(), span.end) }
    }

    private fun render(messages: List<Message>, prompt: Boolean = false): String = template.render(values(messages, prompt))

    private fun values(messages: List<Message>, prompt: Boolean): Map<String, Any?> =
        words + mapOf("messages" to messages, "tools" to null, "documents" to null, "add_generation_prompt" to prompt)

    private fun tokenize(text: String): Places {
        val located = file.locate(tokenizer, text)
        val tokens = located.tokens()
        return Places(tokens, BooleanArray(tokens.size) { tokens[it] in special }, located.begins(), located.ends())
    }

    private companion object {
        const val ASSISTANT = "assistant"

        /** Private-use characters: no tokenizer or template treats them specially. */
        val PROBES = listOf("\ue001", "\ue002")
    }
}
